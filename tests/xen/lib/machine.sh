# The emulated host and the way into its domains. Sourced by tests/xen/run, tests/xen/in and every
# test; a running lab is described by $run/state.
#
#   dom0 SCRIPT            runs a shell script in Dom0; its output and exit status are ours
#   guest NAME SCRIPT      the same in a guest
#   push NAME FILE PATH    copies a file there (NAME may be dom0), executable
#   create NAME [LINE...]  makes a guest, with further lines for its configuration, and waits for it
# Each is bounded by $limit seconds (default 30). Status 125: the domain does not answer.
#
# All limits are for the emulator alone on two processors. What others take from it does not count: a
# limit of seconds is one of the lab's clock, which stands while the emulator waits for a processor, and
# is longer by as much as this machine's boot was slower than that one's (pace). What is bounded by
# a clock in a domain gets $patience times as long.

declare -A number=([dom0]=1 [a]=2 [b]=3 [c]=4 [d]=5 [dom0x]=11)   # 10.77.0.N, fd77::N, ...:0N
declare -A home=()             # the Dom0 of a guest, if not the first host's: dom0x is the second's

address() { echo "10.77.0.${number[$1]}"; }
address6() { echo "fd77::${number[$1]}"; }
mac() { echo "00:16:3e:00:00:0${number[$1]}"; }

# The processor: what QEMU's emulation does wrong is switched off. SMAP: Dom0 crashes at boot (IRET);
# MONITOR: Xen panics; RDTSCP: PVH guests die; XSAVE and AVX: broken floating-point state, and slow.
cpu_model=EPYC,+svm,+npt,-smap,-monitor,-rdtscp,-xsave,-xsaveopt,-xsavec,-xgetbv1,-avx,-avx2,-fma,-f16c

pace=100                       # a hundredth: how much slower than the boot of READY_MS this one was
ready_ms=15000                 # of the lab's clock, from the start to Dom0's READY

# Sets waited_ms: for how long, since its start, the emulator was ready to run and had no processor; 0 where the kernel
# does not count that. And lab_ms: the lab's clock. The waits of its threads add up, since a guest that waits for another
# waits for both threads; but together they wait for no longer than there was time.
lab_clock() {
  local file ran waited times run=0 wait=0 all=$((${EPOCHREALTIME/[.,]/} / 1000))
  for file in /proc/"$qemu_pid"/task/*/schedstat; do
    read -r ran waited times 2>/dev/null <"$file" || continue
    run=$((run + ran / 1000000)) wait=$((wait + waited / 1000000))
  done 2>/dev/null
  ((run + wait <= all - began_ms)) || wait=$((wait * (all - began_ms) / (run + wait)))
  waited_ms=$wait
  lab_ms=$((all - waited_ms))
}
# Sets patience, at least 1: by what to multiply a limit that another clock than the lab's measures, as
# things have been since the start of the machine.
measure_patience() {
  lab_clock
  local all=$((lab_ms + waited_ms - started_ms)) had=$((lab_ms - started_ms))
  ((had > 0)) || had=1
  patience=$(((all * pace / had + 99) / 100))
  ((patience >= 1)) || patience=1
  ((patience <= 20)) || patience=20
}
# within SECONDS SINCE: false when more of the lab's clock has gone by since SINCE (a lab_ms).
within() {
  lab_clock
  ((lab_ms - $2 <= $1 * 10 * pace))
}

# in_domain NAME SCRIPT [INPUT_FILE]
in_domain() {
  local name=$1 patience
  measure_patience
  "$images/lab_call" $((base_port + number[$name])) "$run/token" $((${limit:-30} * patience)) \
    "export PATH=/usr/bin:/usr/sbin LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu HOME=/root
$2" "${@:3}"
}
dom0() { in_domain dom0 "$1"; }
guest() { in_domain "$1" "$2"; }
push() { in_domain "$1" "cat >'$3.new' && chmod 755 '$3.new' && mv '$3.new' '$3'" "$2"; }
domid() { in_domain "${home[$1]:-dom0}" "xl domid $1"; }

pick_ports() {
  local try port
  for ((try = 0; try < 100; try++)); do
    base_port=$((20000 + RANDOM % 600 * 20))
    for port in $(sed -n 's/^ *[0-9]*: [0-9A-F]*:\([0-9A-F]*\) .*/\1/p' /proc/net/tcp); do
      ((16#$port < base_port || 16#$port >= base_port + 20)) || continue 2
    done
    return 0
  done
  die "no free ports"
}

# emulate DIRECTORY MEMORY_MB DOM0_ARGUMENTS QEMU_ARGUMENT...: QEMU in the background; its serial line goes to
# DIRECTORY/serial.log.
emulate() {
  local at=$1 memory=$2 arguments=$3
  shift 3
  mkdir -p "$at"
  rm -f "$at"/{serial.log,monitor,pid}
  # It ends with whoever has started it, however that one ends.
  setsid setpriv --pdeathsig KILL qemu-system-x86_64 -name xenloop-lab -accel tcg,thread=multi -M q35,kernel-irqchip=off \
    -cpu "$cpu_model" -smp 2 -m "$memory" -nodefaults -no-user-config -display none -no-reboot \
    -kernel "$images/xen" \
    -append "console=com1 com1=115200,8n1 loglvl=info guest_loglvl=info dom0_mem=768M,max:768M dom0_max_vcpus=1 dom0_vcpus_pin cpuidle=0" \
    -initrd "$images/vmlinuz console=hvc0 quiet loglevel=4$arguments,$run/dom0.img" \
    "$@" \
    -virtfs "local,path=$run/share,mount_tag=share,security_model=none,multidevs=remap" \
    -chardev "file,id=serial,path=$at/serial.log" -serial chardev:serial \
    -monitor "unix:$at/monitor,server=on,wait=off" -pidfile "$at/pid" \
    </dev/null > >(grep -v "TCG doesn.t support" >"$at/qemu.log") 2>&1 &
}

# start_machine: the host. Its network is closed: nothing but the forwarded ports of the loopback
# interface comes in, and nothing goes out. Where a page wants two hosts, a second card leads to the other.
start_machine() {
  local forward="" name join=()
  pick_ports
  for name in "${!number[@]}"; do
    forward+=",hostfwd=tcp:127.0.0.1:$((base_port + number[$name]))-$(address "$name"):9999"
  done
  [[ $hosts == 1 ]] || join=(-netdev "socket,id=join,listen=127.0.0.1:$((base_port + 19))"
    -device e1000,netdev=join,mac=52:54:00:00:77:fd)
  emulate "$run" "$memory_mb" "" \
    -netdev "user,id=net,net=10.77.0.0/24,host=10.77.0.254,dns=10.77.0.253,dhcpstart=10.77.0.200,ipv6=off,restrict=on$forward" \
    -device e1000,netdev=net,mac=52:54:00:00:77:fe "${join[@]}"
  qemu_pid=$!
  pace=100
  began_ms=$((${EPOCHREALTIME/[.,]/} / 1000))
  lab_clock
  started_ms=$lab_ms
}

stop_machine() {
  [[ ${qemu_pid:-} ]] || return 0
  kill "$qemu_pid" 2>/dev/null
  wait "$qemu_pid" 2>/dev/null
  qemu_pid=""
}

machine_runs() { kill -0 "$qemu_pid" 2>/dev/null; }

# wait_for SECONDS COMMAND...: 1 when time is over, 2 when the machine has died.
wait_for() {
  local seconds=$1 since
  lab_clock
  since=$lab_ms
  shift
  until "$@"; do
    machine_runs || return 2
    within "$seconds" "$since" || return 1
    sleep 0.2
  done
}

dom0_ready() { grep -qa 'LAB.*READY' "$run/serial.log" 2>/dev/null; }
crashed() { grep -qaE 'Reboot in five|rebooting machine|Panic on CPU|Kernel panic' "$run/serial.log" 2>/dev/null; }
ready_or_crashed() { dom0_ready || crashed; }
answers() { limit=5 in_domain "$1" true >/dev/null 2>&1; }

# The guests' consoles and the host's, their last lines: what to look at after a hang.
last_lines() {
  local log
  for log in "$run/serial.log" "$run/qemu.log" "$run"/share/console/*.log; do
    [[ -s $log ]] || continue
    echo "--- ${log##*/} (last lines)"
    tr -d '\r' <"$log" | grep -avE '^ *$|BusyBox v|^Enter .help' | tail -n "${1:-12}" | cut -c1-200
  done
}

# One guest's configuration. Dom0 and guest a share processor 0, the others have processor 1: unpinned,
# a blocking round trip over an event channel takes 5 to 34 ms in the emulator instead of 0.6.
guest_config() {
  local name=$1 cpu=1
  [[ $name != a ]] || cpu=0
  cat <<END
name="$name"
type="$guest_type"
kernel="/tmp/vmlinux"
ramdisk="/tmp/guest.img"
extra="console=hvc0 quiet loglevel=4 lab_name=$name lab_number=${number[$name]}"
memory=$guest_mb
maxmem=$guest_mb
vcpus=1
cpus="$cpu"
vif=['bridge=br0,script=/etc/xen/scripts/vif-lab,mac=$(mac "$name")']
on_crash="preserve"
on_reboot="destroy"
on_poweroff="destroy"
tsc_mode="native"
END
}

# boot_guests NAME...: all at once, on $host (dom0). From tmpfs: over 9p each read of the kernel would cost seconds.
boot_guests() {
  local name script="[ -e /tmp/vmlinux ] || cp /share/vmlinux /share/guest.img /tmp/ || exit 1"
  for name; do
    script+="
cat >/tmp/$name.cfg <<'CONFIG'
$(guest_config "$name")
CONFIG
xl create -q /tmp/$name.cfg >/tmp/$name.create 2>&1 &"
  done
  script+="
wait; status=0
for name in $*; do xl domid \$name >/dev/null 2>&1 || { cat /tmp/\$name.create; status=1; }; done
exit \$status"
  limit=90 in_domain "${host:-dom0}" "$script" || return 1
  for name; do wait_for 90 answers "$name" || { echo "guest $name does not answer"; return 1; }; done
}

create() {
  local name=$1
  shift
  { guest_config "$name"; printf '%s\n' "$@"; } >"$run/share/$name.cfg"
  limit=90 dom0 "xl create -q /share/$name.cfg" && wait_for 90 answers "$name"
}

save_state() {
  local name
  for name in run images build base_port qemu_pid guest_type guest_mb hosts suite pace began_ms started_ms; do
    printf '%s=%q\n' "$name" "${!name}"
  done >"$run/state"
}

# A guest with systemd as its first process: xenloopd by its unit. The guest is saved and restored by somebody who
# tells nobody; what must not be closed then lies in systemd's descriptor store, and a process of the daemon's holds it,
# so that the daemon may be restarted, killed or stopped, and the guest's kernel lives. (Without that process the stop ends
# the guest: systemd empties the store, and the kernel's BUG in evtchn_release is one of process 1.)
# limit: 600
# programs: systemctl /usr/lib/systemd/systemd /usr/lib/systemd/systemd-executor
source lib/moving.sh
[[ $guest_type == pvh ]] || skip "a PV guest's process dies of the first touch of a page that is gone (README, Migration)"
ready_for_programs
needs b systemctl
guest b 'test -x /usr/lib/systemd/systemd && /usr/lib/systemd/systemd --version >/dev/null' || skip "no systemd that runs in b"
limit=120
# The unit as it is installed; of the rest of a distribution only the targets that systemd insists on.
guest b 'cd /usr/lib/systemd/system
  for target in default sysinit basic shutdown network multi-user; do printf "[Unit]\nDescription=%s\n" $target >$target.target; done
  mkdir -p /etc/systemd/system/xenloopd.service.d
  printf "[Service]\nStandardError=append:/tmp/xenloopd.log\n" >/etc/systemd/system/xenloopd.service.d/lab.conf
  : >/etc/machine-id
  killall xenloopd; sleep 0.2; rm -f /tmp/xenloopd.log
  echo /usr/lib/systemd/systemd >/run/lab-init'
eventually 60 guest b 'systemctl list-units >/dev/null'
[[ $(guest b 'cat /proc/1/comm') == systemd ]] || fail "the first process is $(guest b 'cat /proc/1/comm')"
guest b 'systemctl start xenloopd' || fail "$(guest b 'systemctl status xenloopd; tail -n 5 /tmp/xenloopd.log')"
main() { guest b 'systemctl show -P MainPID xenloopd'; }
kept() { guest b 'systemctl show -P NFileDescriptorStore xenloopd'; }
keeps() { (($(kept) > 0)); }
note "$(guest b 'systemctl --version | head -n 1'): xenloopd $(guest b 'systemctl is-active xenloopd'), $(kept) descriptors kept"

stream() {
  serve b taker "stream-check receive 0.0.0.0:$1 7"
  listening b "$1"
  serve a giver "stream-check send $(address b):$1 7 0"
  eventually 60 at_least 1 b
}
# vanish: b is saved and restored by xl alone.
vanish() {
  local before
  before=$(guest b 'grep -c "suspended without notice" /tmp/xenloopd.log; true')
  dom0 'mkdir -p /saved; mount -t tmpfs -o size=450m none /saved && xl save b /saved/b.image' >"$run/logs/save.out" 2>&1 ||
    fail "save: $(tail -n 3 "$run/logs/save.out")"
  dom0 'xl restore /saved/b.image; status=$?; umount /saved; exit $status' >"$run/logs/restore.out" 2>&1 ||
    fail "restore: $(tail -n 3 "$run/logs/restore.out")"
  eventually 60 guest b "test \$(grep -c 'suspended without notice' /tmp/xenloopd.log) -gt $before"
}
meet a b
knows a "$(address b)" "$(domid b)"; knows b "$(address a)" "$(domid a)"
stream 7501
vanish
eventually 60 keeps
held=$(kept)
note "after a suspension without notice systemd keeps $held descriptors"

keeper() { guest b 'for line in /proc/[0-9]*/cmdline; do grep -sq "^@xenloopd-keeper" $line && echo $line; done; true'; }
[[ $(keeper) ]] || fail "no process holds them"
before=$(main)
guest b 'systemctl restart xenloopd' || fail "no restart: $(guest b 'systemctl status xenloopd')"
[[ $(main) != "$before" ]] || fail "not restarted"
kernel_well b
before=$(main)
guest b "kill -9 $before"
another() { [[ $(main) != 0 && $(main) != "$before" ]]; }
eventually 60 another
eventually 60 guest b 'systemctl is-active xenloopd'
kernel_well b
(($(kept) >= held)) || fail "of $held descriptors systemd keeps $(kept)"
note "restarted and killed: the kernel is well, $(kept) descriptors kept by systemd"
guest b 'systemctl stop xenloopd' || fail "no stop"
[[ $(kept) == 0 ]] || note "stopped: systemd still keeps $(kept)"
[[ $(keeper) ]] || fail "the stop has ended the process that holds them"
kernel_well b
guest b 'systemctl start xenloopd' || fail "no start: $(guest b 'systemctl status xenloopd')"
note "stopped, and started again: the kernel is well"
guest a 'killall -9 stream-check 2>/dev/null; true'; guest b 'killall -9 stream-check 2>/dev/null; true'
sleep 1
kernel_well b

# By pages again, between new programs.
knows a "$(address b)" "$(domid b)" 30; knows b "$(address a)" "$(domid a)" 30
for name in a b; do guest $name ': >/tmp/stats.json'; counted[$name]=0; done
serve b receiver "stream-check receive 0.0.0.0:7502 42"
listening b 7502
guest a "$with_library stream-check send $(address b):7502 42 20000000" || fail "the sender ended with $?"
ended b receiver
expect_fifo 'after the restarts'

dom0 'xl destroy b'   # the next page finds a guest as they all are

# ssh between the guests: a command, and a file each way, whole; then a client that reads its socket by
# stdio. sshd forks, executes itself and drops privileges on the way: wherever memory cannot follow,
# TCP carries on.
# limit: 400
# programs: sshd ssh scp ssh-keygen whois
source lib/programs.sh
needs b sshd; needs a ssh scp ssh-keygen
ready_for_programs
limit=100
there=$(address b)
guest a 'rm -rf /root/.ssh && mkdir -p -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N "" -f /root/.ssh/id_ed25519 &&
  head -c 3000000 /dev/urandom >/tmp/sent'
guest a 'cat /root/.ssh/id_ed25519.pub' >"$run/logs/key.pub"
push b "$run/logs/key.pub" /tmp/key.pub
guest b 'mkdir -p -m 755 /run/sshd && rm -rf /root/.ssh /tmp/ssh && mkdir -p -m 700 /root/.ssh /tmp/ssh &&
  ssh-keygen -q -t ed25519 -N "" -f /tmp/ssh/host && mv /tmp/key.pub /root/.ssh/authorized_keys &&
  chmod 600 /root/.ssh/authorized_keys && chmod 700 /root &&
  printf "Port 7701\nHostKey /tmp/ssh/host\nPidFile /tmp/ssh/pid\nUsePAM no\nPermitRootLogin yes\nUseDNS no\nStrictModes no\n" >/tmp/ssh/config'
options="-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=30"

# As the kernel alone has it, then with the library at both ends.
for library in '' "$with_library"; do
  what=${library:+with the library}
  what=${what:-natively}
  guest b "setsid env $library /usr/bin/sshd -D -e -f /tmp/ssh/config >/tmp/sshd.log 2>&1 </dev/null &"
  listening b 7701
  said=$(guest a "$library ssh $options -p 7701 root@$there 'echo \$((6 * 7)) from \$(hostname); exit 3'") && fail "$what: a status was lost" || status=$?
  [[ $said == '42 from b' && $status == 3 ]] || fail "$what: ssh said '$said', status $status: $(guest b 'tail -n 5 /tmp/sshd.log')"
  guest a "$library scp -O $options -P 7701 /tmp/sent root@$there:/tmp/got && rm -f /tmp/back &&
    $library scp -O $options -P 7701 root@$there:/tmp/got /tmp/back" || fail "$what: scp ended with $?: $(guest b 'tail -n 5 /tmp/sshd.log')"
  sum=$(guest a 'sha256sum </tmp/sent')
  [[ $sum == "$(guest b 'sha256sum </tmp/got')" && $sum == "$(guest a 'sha256sum </tmp/back')" ]] || fail "$what: the file is another"
  if [[ $library ]]; then
    # Why a session that lasts stays on TCP (sshd separates privileges: one socket, several processes, a
    # sandbox), as `xenloop stat` says it at either end.
    guest a "setsid env $library ssh $options -p 7701 root@$there 'head -c 3000000 /dev/zero; sleep 5' >/tmp/long 2>&1 </dev/null &"
    eventually 20 guest a '[ "$(stat -c %s /tmp/long)" = 3000000 ]'
    for name in a b; do
      why=$(guest $name 'xenloop stat --json' | jq -r '[.processes[].streams[] | .program + ": " + .route_send + "/" + .route_receive + ", " + .reason] | unique | join("; ")')
      note "a session lasts, $name: ${why:-no process has an agent}"
    done
  fi
  guest b 'kill $(cat /tmp/ssh/pid); rm -f /tmp/got'
  eventually 15 guest b '! netstat -ltn | grep -q ":7701 "'
done
fifo=$(fifo_bytes a)
reasons=$(guest a 'cat /tmp/stats.json' | jq -rs '[.[] | .fallbacks // {} | keys[]] | unique | join("; ")')
note "ssh and scp: FIFO bytes a $fifo, by TCP a $(tcp_bytes a); fallbacks: ${reasons:-none}"

# stdio on a socket: glibc reads beneath our symbols, so it stays on TCP.
if guest a 'command -v whois >/dev/null'; then
  before=$(fifo_bytes a)
  guest b "printf 'a small answer\r\n' >/tmp/answer; rm -f /tmp/asked
    setsid sh -c 'nc -l -p 43 -e sh -c \"read q; echo \\\"\\\$q\\\" >/tmp/asked; cat /tmp/answer\"' >/tmp/nc.log 2>&1 </dev/null &"
  listening b 43
  said=$(guest a "$with_library XENLOOP_UPGRADE_AFTER=1 whois -p 43 -h $there example" 2>&1) || fail "whois ended with $?: $said"
  [[ $said == *'a small answer'* ]] || fail "whois got '$said': $(guest b 'cat /tmp/nc.log')"
  [[ $(guest b 'tr -d "\r" </tmp/asked') == *example* ]] || fail "the question did not arrive"
  note "whois by stdio: $(($(fifo_bytes a) - before)) FIFO bytes; $(guest a 'tail -n 1 /tmp/stats.json' | jq -c '.fallbacks')"
else
  note 'no whois on this machine'
fi
for name in a b; do
  guest $name 'dmesg | grep -E "BUG:|Oops|segfault" && exit 1 || exit 0' || fail "$name: $(guest $name 'dmesg | tail -n 3')"
done

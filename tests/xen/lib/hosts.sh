# A second emulated host, for a page with the comment line "# hosts: 2". Its bridge and the first's are one
# network; nothing else leads there. Its Dom0 is dom0x.

second_serial() { grep -qaE "$1" "$run/second/serial.log" 2>/dev/null; }

second_host() {
  emulate "$run/second" 2048 " lab_host=${number[dom0x]}" \
    -netdev "socket,id=join,connect=127.0.0.1:$((base_port + 19))" -device e1000,netdev=join,mac=52:54:00:00:77:fc
  trap end_second_host EXIT
  wait_for 240 second_serial 'LAB.*READY|Reboot in five|rebooting machine|Panic on CPU|Kernel panic' ||
    fail "the second host does not come up: $(tail -n 5 "$run/second/serial.log")"
  wait_for 60 answers dom0x || fail "the second host's Dom0 does not answer: $(tail -n 5 "$run/second/serial.log")"
}
end_second_host() { [[ ! -s $run/second/pid ]] || kill "$(cat "$run/second/pid")" 2>/dev/null || true; }

# guests_there NAME...: boots guests on the second host.
guests_there() {
  local name
  host=dom0x boot_guests "$@" || fail "no guests on the second host"
  for name; do home[$name]=dom0x; done
}

# migrate NAME FROM TO [COMMAND]: by the administrator's command (xenloop, or xl: nobody is told), over the
# network between the two Dom0s.
migrate() {
  local name=$1 from=$2 to=$3 by=${4:-xenloop} at
  in_domain "$to" "killall move_relay 2>/dev/null; setsid move_relay serve 9998 xl migrate-receive >/tmp/receive.log 2>&1 </dev/null &"
  at=$(now)
  in_domain "$from" "rm -f /tmp/migrate.status; setsid sh -c \"$by migrate -s '' $name 'move_relay connect $(address "$to") 9998'; echo \\\$? >/tmp/migrate.status\" >/tmp/migrate.log 2>&1 </dev/null &"
  eventually 240 in_domain "$from" 'test -s /tmp/migrate.status'
  [[ $(in_domain "$from" 'cat /tmp/migrate.status') == 0 ]] ||
    fail "migrate: $(in_domain "$from" 'tail -n 5 /tmp/migrate.log'); there: $(in_domain "$to" 'tail -n 5 /tmp/receive.log')"
  home[$name]=$to
  note "$name moved from $from to $to by $by in $(since "$at") s; it is domain $(domid "$name") there"
}

# TCP between the guests over netfront: what the programs use without us.
head -c 3000000 /dev/urandom >"$run/logs/tcp.bytes"
push a "$run/logs/tcp.bytes" /tmp/bytes
guest b 'rm -f /tmp/got; setsid sh -c "sleep 30 | nc -l -p 7001 >/tmp/got" >/tmp/nc.log 2>&1 </dev/null & sleep 0.5'
at=$(now)
guest a "timeout $((20 * patience)) nc $(address b) 7001 </tmp/bytes" || fail "nc: $? $(guest b 'cat /tmp/nc.log')"
note "3 MB in $(since "$at") s"
eventually 10 guest b "[ \$(stat -c %s /tmp/got) = 3000000 ]"
[[ $(guest b 'sha256sum </tmp/got') == "$(sha256sum <"$run/logs/tcp.bytes")" ]]

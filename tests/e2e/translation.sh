#!/usr/bin/env bash
# Addresses translated on the way: two clients are then known by one name, and by name alone the end of
# the one would be joined to the server's end of the other. Never a wrong answer, no stall; a
# connection that is only tracked and not translated is upgraded all the same. See translation.py.
. "$(dirname "$0")/own_namespaces.bash"
. "$(dirname "$0")/lib.sh"
need nft ip unshare
need_root
[[ -n $python ]] || skip "python3 is not installed"
runs=${TRANSLATION_RUNS:-3}
us() { "$python" "$source_dir/tests/e2e/translation.py" "$@"; }
serve() { start "$1" "${@:4}" "$python" "$source_dir/tests/e2e/translation.py" server "$2" "$3" 2; }
ask() { run "$@"; }
clients=("$python" "$source_dir/tests/e2e/translation.py" clients 120)

rules() { nft -f - || skip "no network address translation in this kernel"; }

# The destination is another: to the server A (4000 -> 8000) looks like B (4000 -> 8080), whose port is moved.
redirect() {
  nft flush ruleset
  rules <<'END'
table ip nat {
  chain output { type nat hook output priority -100; tcp dport 8000 redirect to :8080; }
  chain post { type nat hook postrouting priority 100; }
}
END
  for ((i = 0; i < runs; i++)); do
    serve server 127.0.0.1 8080
    listening 8080
    ask "${clients[@]}" '127.0.0.1:4000>127.0.0.1:8000' '127.0.0.1:4000>127.0.0.1:8080'
    finish server
    echo "server: exit $finished"
  done
}

# Only source ports are moved: nobody sees it, at either end.
source_port() {
  nft flush ruleset
  rules <<'END'
table ip nat {
  chain out { type nat hook output priority -100; }
  chain post { type nat hook postrouting priority 100; tcp sport 4000 tcp dport 8080 snat to :5000; }
}
END
  for ((i = 0; i < runs; i++)); do
    serve server 127.0.0.1 8080
    listening 8080
    ask "${clients[@]}" '127.0.0.1:4000>127.0.0.1:8080' '127.0.0.1:5000>127.0.0.1:8080'
    finish server
    echo "server: exit $finished"
  done
}

# Each has the other's name.
exchanged() {
  nft flush ruleset
  rules <<'END'
table ip nat {
  chain out { type nat hook output priority -100; }
  chain post {
    type nat hook postrouting priority 100;
    tcp sport 4100 tcp dport 8081 snat to :5100
    tcp sport 5100 tcp dport 8081 snat to :4100
  }
}
END
  for ((i = 0; i < runs; i++)); do
    serve server 127.0.0.1 8081
    listening 8081
    ask "${clients[@]}" '127.0.0.1:4100>127.0.0.1:8081' '127.0.0.1:5100>127.0.0.1:8081'
    finish server
    echo "server: exit $finished"
  done
}

# Clients of different users, of which the second has the server's.
two_users() {
  local as_first=(setpriv --reuid=2001 --regid=2001 --clear-groups)
  local as_second=(setpriv --reuid=2002 --regid=2002 --clear-groups)
  nft flush ruleset
  rules <<'END'
table ip nat {
  chain out { type nat hook output priority -100; tcp dport 8002 redirect to :8082; }
  chain post { type nat hook postrouting priority 100; }
}
END
  for ((i = 0; i < runs; i++)); do
    serve server 127.0.0.1 8082 "${as_second[@]}"
    listening 8082
    ask "${as_first[@]}" "${clients[@]}" '127.0.0.1:4200>127.0.0.1:8002' >"$work/$mode.first" &
    local first=$!
    eventually connected 8082
    ask "${as_second[@]}" "${clients[@]}" '127.0.0.1:4200>127.0.0.1:8082'
    wait $first
    cat "$work/$mode.first"
    finish server
    echo "server: exit $finished"
  done
}
connected() { [[ -n $(ss -Htn state established "sport = :$1") ]]; }

# Through a router that masquerades in both directions; it has a client of its own with the address
# that it lends to others.
inside=xenloop-$$-in outside=xenloop-$$-out
networks() {
  local ns
  for ns in $inside $outside; do
    ip netns add $ns || skip "no permission for network namespaces"
    cleanups+=("ip netns del $ns")
    ip -n $ns link set lo up
  done
  ip link add to-in type veth peer name uplink netns $inside
  ip link add to-out type veth peer name uplink netns $outside
  ip addr add 10.78.1.1/24 dev to-in
  ip addr add 10.78.2.1/24 dev to-out
  ip -n $inside addr add 10.78.1.2/24 dev uplink
  ip -n $outside addr add 10.78.2.2/24 dev uplink
  ip link set to-in up
  ip link set to-out up
  ip -n $inside link set uplink up
  ip -n $outside link set uplink up
  ip -n $inside route add default via 10.78.1.1
  ip -n $outside route add default via 10.78.2.1
  echo 1 >/proc/sys/net/ipv4/ip_forward
}
masquerade() {
  local in_inside=(ip netns exec $inside) in_outside=(ip netns exec $outside) first
  nft flush ruleset
  rules <<'END'
table ip nat {
  chain pre { type nat hook prerouting priority -100; iifname "to-out" tcp dport 8000 dnat to 10.78.1.2:8080; }
  chain post { type nat hook postrouting priority 100; oifname { "to-in", "to-out" } masquerade; }
}
END
  for ((i = 0; i < runs; i++)); do
    # Out: from inside to a server outside, which sees the router's address.
    serve server 10.78.2.2 8080 "${in_outside[@]}"
    listening 8080 "${in_outside[@]}"
    ask "${in_inside[@]}" "${clients[@]}" '10.78.1.2:4000>10.78.2.2:8080' >"$work/$mode.first" &
    first=$!
    eventually "${in_outside[@]}" bash -c '[[ -n $(ss -Htn state established "sport = :8080") ]]'
    ask "${clients[@]}" '10.78.2.1:4000>10.78.2.2:8080'
    wait $first
    cat "$work/$mode.first"
    finish server
    # In: from outside to a port of the router's, behind which a server inside stands.
    serve server 10.78.1.2 8080 "${in_inside[@]}"
    listening 8080 "${in_inside[@]}"
    ask "${in_outside[@]}" "${clients[@]}" '10.78.2.2:4000>10.78.2.1:8000' >"$work/$mode.first" &
    first=$!
    eventually "${in_inside[@]}" bash -c '[[ -n $(ss -Htn state established "sport = :8080") ]]'
    ask "${clients[@]}" '10.78.1.1:4000>10.78.1.2:8080'
    wait $first
    cat "$work/$mode.first"
    finish server
    echo "server: exit $finished"
  done
}

networks
mkdir -m 700 "$work/realm"
said() { [[ ${E2E_NATIVE:-} == 1 ]] || grep -qF "$1" "$stats" || fail "nobody said: $1"; }
way=both
for settings in XENLOOP=on XENLOOP_UPGRADE_AFTER=0; do
  for scenario in redirect source_port exchanged; do
    $way $scenario $settings
    expect_no_fifo "two connections with one name"
    if [[ $scenario == redirect ]]; then
      said "its addresses are translated"
    else  # they met
      said "another connection has this name"
    fi
  done
  $way two_users $settings
  expect_no_fifo "two connections with one name"
  $way masquerade XENLOOP_RUNTIME_DIR="$work/realm" $settings
  expect_no_fifo "two connections with one name"
  way=again
done
[[ ${E2E_NATIVE:-} == 1 ]] && exit

# Tracked, and nothing is translated.
nft flush ruleset
rules <<'END'
table ip nat {
  chain output { type nat hook output priority -100; tcp dport 8000 redirect to :8080; }
  chain post { type nat hook postrouting priority 100; }
}
END
with_library
: >"$stats"
for ((i = 0; i < 5 * runs; i++)); do
  start server "$python" "$source_dir/tests/e2e/translation.py" server 127.0.0.1 8080 1
  listening 8080
  run "$python" "$source_dir/tests/e2e/translation.py" busy 127.0.0.1 8080 >>"$work/busy"
  finish server
done
sort "$work/busy" | uniq -c | sort -k5n
! grep -q never "$work/busy" || fail "a tracked connection was not upgraded"
expect_fifo python3

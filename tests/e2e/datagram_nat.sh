#!/usr/bin/env bash
# UDP where addresses are translated on the way: a datagram must never reach a stranger by a FIFO,
# nor come under a stranger's name. Where the kernel tracks nothing, the same programs are met; and where it tracks
# them and tells their agents, who may ask it here (CAP_NET_ADMIN), that it translates neither name.
# See datagram_nat.py.
. "$(dirname "$0")/own_namespaces.bash"
. "$(dirname "$0")/lib.sh"
need nft
need_root
[[ -n $python ]] || skip "python3 is not installed"
export XENLOOP_UDP=on
bound() { [[ -n $(ss -Huln "sport = :$1") ]]; }
serve() {
  start server "$python" "$source_dir/tests/e2e/datagram_nat.py" server 8080
  eventually bound 8080
}
ask() {
  run "$python" "$source_dir/tests/e2e/datagram_nat.py" clients 400 "$@"
  finish server
  echo "server: exit $finished"
}
rules() { nft -f - || skip "no network address translation in this kernel"; }
# Pairs that were met, at both ends. (Who waits is woken by the kernel, so few datagrams need go by a FIFO.)
met() {
  "$python" - "$stats" <<'PY'
import json, sys
print(sum(json.loads(line).get("datagrams", {}).get("upgrades", 0) for line in open(sys.argv[1])))
PY
}

# To the server the first client (4000 -> 8000) looks like the second (4000 -> 8080), whose port is moved.
redirect() {
  nft flush ruleset
  rules <<'END'
table ip nat {
  chain output { type nat hook output priority -100; udp dport 8000 redirect to :8080; }
  chain post { type nat hook postrouting priority 100; }
}
END
  serve
  ask '127.0.0.1:4000>127.0.0.1:8000' '127.0.0.1:4000>127.0.0.1:8080'
}
# Each has the other's name.
exchanged() {
  nft flush ruleset
  rules <<'END'
table ip nat {
  chain out { type nat hook output priority -100; }
  chain post {
    type nat hook postrouting priority 100;
    udp sport 4100 udp dport 8080 snat to :5100
    udp sport 5100 udp dport 8080 snat to :4100
  }
}
END
  serve
  ask '127.0.0.1:4100>127.0.0.1:8080' '127.0.0.1:5100>127.0.0.1:8080'
}
# The control: no rules, and nothing is tracked.
plain() {
  serve
  ask '127.0.0.1:4200>127.0.0.1:8080' '127.0.0.1:5200>127.0.0.1:8080'
}
# Tracked, by a table of translations, too, which does not mean these.
tracked() {
  nft flush ruleset
  rules <<'END'
table ip filter {
  chain input { type filter hook input priority 0; ct state invalid drop; }
}
table ip nat {
  chain output { type nat hook output priority -100; udp dport 9 redirect to :10; }
}
END
  plain
}
# The same by programs that the kernel does not tell.
untold() {
  local before=("${server_prefix[@]}") client=("${client_prefix[@]}")
  server_prefix=(setpriv --bounding-set -net_admin --inh-caps -net_admin "${before[@]}")
  client_prefix=(setpriv --bounding-set -net_admin --inh-caps -net_admin "${client[@]}")
  tracked
  server_prefix=("${before[@]}") client_prefix=("${client[@]}")
}

both plain
[[ ${E2E_NATIVE:-} == 1 ]] || (($(met) > 0)) || fail "nobody was met: this test shows nothing"
both tracked
[[ ${E2E_NATIVE:-} == 1 ]] || (($(met) > 0)) || fail "nobody was met though the kernel says that it translates nothing"
for scenario in redirect exchanged untold; do
  both $scenario
  [[ ${E2E_NATIVE:-} == 1 ]] || grep -qF 'address translation: the other end cannot be proved' "$stats" ||
    fail "nobody was refused because of $scenario"
  [[ ${E2E_NATIVE:-} == 1 ]] || (($(met) == 0)) || fail "a FIFO between two sockets whose names prove nothing"
done

#!/usr/bin/env bash
# A process of the same user that speaks to agents offers a FIFO for a name that is another
# process's: the receiver must not take its datagrams for that one's. Under its own name it may.
# See datagram_forger.py.
. "$(dirname "$0")/own_namespaces.bash"
. "$(dirname "$0")/lib.sh"
[[ -n $python ]] || skip "python3 is not installed"
[[ ${E2E_NATIVE:-} != 1 ]] || exit 0  # nobody to be forged to
forger() { "$python" "$source_dir/tests/e2e/datagram_forger.py" "$@"; }
published() { grep -q "xenloop/$(id -u)/" /proc/net/unix; }

pick_port port
pick_port source
export XENLOOP_UDP=on
copy_library
with_library
: >"$stats"
mkfifo "$work/end"
start receiver "$python" "$source_dir/tests/e2e/datagram_forger.py" receiver "$port"
bound() { [[ -n $(ss -Huln "sport = :$port") ]]; }
eventually bound
run "$python" "$source_dir/tests/e2e/datagram_forger.py" owner "$port" "$source" <"$work/end" &
owner=$!
exec 9>"$work/end"
eventually published
sleep 0.5  # hot, and published
forger forger "$port" "$source" 9>&- >"$work/said"
cat "$work/said"
exec 9>&-
wait $owner
finish receiver
! grep -q "another's name joined" "$work/said" || fail "a name was believed"
grep -q "its own name joined" "$work/said" || fail "nobody was met: this test shows nothing"

#!/usr/bin/env bash
# Two users, one of them hostile (hostile_peer.py): while he attacks in every way that a user of the
# machine has, the other's bytes stay right and private, her programs keep running, and when he is
# gone they are as idle as before. Once as installed, and once where users are allowed to share
# memory with each other (other_users), so that he is let in further. See SECURITY.md.
. "$(dirname "$0")/own_namespaces.bash"
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli redis-benchmark setpriv
need_root
check=$build/bin/stream-check
[[ -x $check && -n $python ]] || fail "$check or python3 is missing"
chmod 711 "$work"
install -m 755 "$check" "$work/stream-check"
install -m 644 "$source_dir/tests/e2e/hostile_peer.py" "$work/"
mkdir -m 777 "$work/hers"

her=(setpriv --reuid=daemon --regid=daemon --clear-groups)
his=(setpriv --reuid=nobody --regid=nogroup --clear-groups env "HOME=/")
her_uid=$(id -u daemon)
attack_seconds=6

# ticks PID: processor time used so far, in hundredths of a second.
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }
descriptors() { find "/proc/$1/fd" -mindepth 1 2>/dev/null | wc -l; }

session() {
  for i in {1..300}; do echo "set k$i v$((i * i))"; echo "get k$i"; done
  echo "dbsize"
}

scenario() {
  local attacker='' before after pid round
  pick_port port
  pick_port stream_port
  start redis "${her[@]}" redis-server --port "$port" --bind 127.0.0.1 --save '' --dir /
  listening "$port"
  pid=${server[redis]}
  run "${her[@]}" redis-cli -p "$port" ping
  run "${her[@]}" redis-benchmark -p "$port" -q -c 4 -n 2000 -t incr >"$work/$mode.warm.log" 2>&1
  before=$(descriptors "$pid")
  start receiver "${her[@]}" "$work/stream-check" both-receive "$stream_port" 5 300000000
  listening "$stream_port"
  if [[ $mode != native ]]; then
    timeout 60 "${his[@]}" "$python" "$work/hostile_peer.py" "$her_uid" $attack_seconds "$port" \
      >"$work/attacks-$rounds" 2>"$work/attacker.stderr" {out}>&- &
    attacker=$!
  fi
  start sender "${her[@]}" "$work/stream-check" both-send "$stream_port" 5 300000000
  for round in {1..12}; do
    session | run "${her[@]}" redis-cli -p "$port" | sha256sum
    run "${her[@]}" redis-cli -p "$port" -x set big <"$work/stream-check" >/dev/null
    run "${her[@]}" redis-cli -p "$port" get big | head -c 200000 | sha256sum
  done
  run "${her[@]}" redis-benchmark -p "$port" -q -c 8 -n 20000 -t incr >"$work/$mode.benchmark.log" 2>&1
  finish sender
  echo "sender: $finished"
  finish receiver
  echo "receiver: $finished"
  if [[ -n $attacker ]]; then
    wait "$attacker" || fail "the attacker ended with $? (9: he got hold of somebody else's memory)"
    eventually idle "$pid"
    after=$(descriptors "$pid")
    ((after <= before + 12)) || fail "redis-server has $after descriptors and had $before"
  fi
  run "${her[@]}" redis-cli -p "$port" get counter:__rand_int__
  stop redis
}

# Less than a tenth of a processor.
idle() {
  local was
  was=$(ticks "$1")
  sleep 0.5
  (($(ticks "$1") - was < 5))
}

way=both
for setting in off on; do
  $way scenario XENLOOP_OTHER_USERS=$setting
  way=again
  [[ ${E2E_NATIVE:-} == 1 ]] && continue
  echo "attacks with other_users = $setting:"
  cat "$work/attacks-$rounds" 2>/dev/null || cat "$work"/attacks-*
  grep -q 'connections to an agent' "$work"/attacks-* || fail "no agent was attacked"
  if [[ $setting == on ]]; then
    grep -q 'offers of others' "$work/attacks-$rounds" || fail "no connection was claimed"
    grep -q 'our own connection joined' "$work/attacks-$rounds" || fail "his own offer was not taken"
  else
    ! grep -q 'introductions accepted' "$work"/attacks-* || fail "an agent took his descriptors"
  fi
  # Not redis-server where he is let in: it counts the bytes of his connection by his indices.
  if [[ $setting == on ]]; then expect_fifo stream-check; else expect_fifo redis-server stream-check; fi
done

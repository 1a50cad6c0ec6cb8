#!/usr/bin/env bash
# kill -9 of one end at 50 random moments of a stream. The survivor ends by itself, soon, and what
# it received is a prefix of what was sent; after the sender's death everything that send() had
# taken arrives, as TCP promises. E2E_SEED repeats a run's moments (as far as the machine lets it).
. "$(dirname "$0")/lib.sh"
check=$build/bin/stream-check
[[ -x $check ]] || fail "$check is missing (build it first)"
RANDOM=${E2E_SEED:=$((RANDOM))}

# round NUMBER: in turn 0 the sender dies, 1 the receiver dies, 2 and 3 the same while both
# directions flow.
round() {
  local kind=$(($1 % 4)) seed=$RANDOM victim survivor
  pick_port port
  rm -f "$work/accepted"
  case $kind in
    0) start receiver "$check" receive "$port" "$seed" "$work/accepted" ;;
    1) start receiver "$check" receive "$port" "$seed" ;;
    *) start receiver "$check" both-receive "$port" "$seed" 0 ;;
  esac
  listening "$port"
  case $kind in
    0) start sender "$check" send "$port" "$seed" 0 "$work/accepted" ;;
    1) start sender "$check" send "$port" "$seed" 0 ;;
    *) start sender "$check" both-send "$port" "$seed" 0 ;;
  esac
  victim=sender survivor=receiver
  ((kind % 2 == 0)) || victim=receiver survivor=sender
  sleep "$(printf '0.%03d' $((RANDOM % 150)))" # the random moment
  kill -KILL "${server[$victim]}"
  finish "$victim"
  # Killed before it connected? Then nobody else would, and the receiver would wait for ever.
  [[ $victim == receiver ]] || (exec 9<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || true
  finish "$survivor"
  # A killed peer shows itself as an end or as a reset; both are right answers of TCP.
  ((finished == 0 || finished == 3)) ||
    fail "round $1 (E2E_SEED=$E2E_SEED): the $survivor ended with $finished"
}

scenario() {
  local i
  for ((i = 0; i < ${E2E_ROUNDS:-50}; i++)); do round $i; done
  echo "all rounds right"
}

both scenario XENLOOP_UPGRADE_AFTER=2
expect_fifo stream-check
E2E_ROUNDS=20
both scenario XENLOOP_SWITCH_EVERY=20
expect_fifo stream-check

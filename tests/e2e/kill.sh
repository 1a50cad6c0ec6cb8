#!/usr/bin/env bash
# kill -9 of one end at random moments of a stream. The survivor ends by itself, soon, and what it
# received is a prefix of what was sent; after the sender's death everything that send() had taken
# arrives, as TCP promises. E2E_SEED repeats a run's moments (as far as the machine lets it).
#
#   tests/e2e/kill.sh [MOMENTS]    48 with the library, and as many natively; the long run is
#                                  E2E_SECONDS=3000 tests/e2e/kill.sh 1000
#
# In a network namespace of its own: `xenloop off` must not reach what else runs on this machine.
. "$(dirname "$0")/own_namespaces.bash"
. "$(dirname "$0")/lib.sh"
check=$build/bin/stream-check
[[ -x $check ]] || fail "$check is missing (build it first)"
moments=${1:-48}
RANDOM=${E2E_SEED:=$((RANDOM))}

# While a stream lives: falls back and goes up again, all the time.
restless() {
  trap - ERR EXIT
  while "$tool" off && "$tool" on; do :; done >/dev/null 2>&1
}

# round NUMBER. Who dies: the sender, the receiver, and either while both directions flow by poll.
# In every second four one end shares its socket with a forked child; in every third, with the
# library, `xenloop off` and `on` flip the routes.
round() {
  local kind=$(($1 % 4)) four=$(($1 / 4)) seed=$RANDOM victim survivor flipper=
  local -a receiver_env=(env) sender_env=(env)
  if ((four % 2 == 1)); then
    if ((RANDOM % 2)); then
      receiver_env+=("STREAM_CHECK_FORK=$((1 + RANDOM % 200))")
    else
      sender_env+=("STREAM_CHECK_FORK=$((1 + RANDOM % 200))")
    fi
  fi
  pick_port port
  rm -f "$work/accepted"
  case $kind in
    0) start receiver "${receiver_env[@]}" "$check" receive "$port" "$seed" "$work/accepted" ;;
    1) start receiver "${receiver_env[@]}" "$check" receive "$port" "$seed" ;;
    *) start receiver "${receiver_env[@]}" "$check" both-receive "$port" "$seed" 0 ;;
  esac
  listening "$port"
  case $kind in
    0) start sender "${sender_env[@]}" "$check" send "$port" "$seed" 0 "$work/accepted" ;;
    1) start sender "${sender_env[@]}" "$check" send "$port" "$seed" 0 ;;
    *) start sender "${sender_env[@]}" "$check" both-send "$port" "$seed" 0 ;;
  esac
  victim=sender survivor=receiver
  ((kind % 2 == 0)) || victim=receiver survivor=sender
  if ((four % 3 == 2)) && [[ $mode != native ]]; then
    restless {out}>&- &
    flipper=$!
  fi
  sleep "$(printf '0.%03d' $((RANDOM % 150)))" # the random moment
  kill -KILL "${server[$victim]}"
  finish "$victim"
  if [[ -n $flipper ]]; then
    kill "$flipper" 2>/dev/null || true
    wait "$flipper" 2>/dev/null || true
  fi
  # Killed before it connected? Then nobody else would, and the receiver would wait for ever.
  [[ $victim == receiver ]] || (exec 9<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || true
  finish "$survivor"
  # A killed peer shows itself as an end or as a reset; both are right answers of TCP.
  ((finished == 0 || finished == 3)) ||
    fail "round $1 (E2E_SEED=$E2E_SEED): the $survivor ended with $finished"
}

scenario() {
  local i
  for ((i = 0; i < this_time; i++)); do round $i; done
  echo "all $this_time rounds right"
}

this_time=$(((moments * 3 + 3) / 4))
both scenario XENLOOP_UPGRADE_AFTER=2
expect_fifo stream-check
this_time=$((moments - this_time))
both scenario XENLOOP_SWITCH_EVERY=20
expect_fifo stream-check
echo "$moments moments with the library (E2E_SEED=$E2E_SEED)"

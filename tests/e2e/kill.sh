#!/usr/bin/env bash
# kill -9 of one end at random moments of a stream. The survivor ends by itself, soon, and what it
# received is a prefix of what was sent; after the sender's death everything that send() had taken
# arrives, as TCP promises. E2E_SEED repeats a run's moments (as far as the machine lets it).
#
#   tests/e2e/kill.sh [MOMENTS]    48 with the library, and as many natively, or what the time allows on a busy
#                                  machine; the long run is E2E_SECONDS=3000 tests/e2e/kill.sh 1000
#
# In a network namespace of its own: `xenloop off` must not reach what else runs on this machine.
. "$(dirname "$0")/own_namespaces.bash"
. "$(dirname "$0")/lib.sh"
check=$build/bin/stream-check
[[ -x $check ]] || fail "$check is missing (build it first)"
moments=${1:-48} done_moments=0
RANDOM=${E2E_SEED:=$((RANDOM))}

# While a stream lives: falls back and goes up again, all the time. Ends switched on.
restless() {
  trap - ERR EXIT
  until [[ -e $work/calm ]]; do
    "$tool" off && "$tool" on || break # who dies meanwhile may not answer
  done >/dev/null 2>&1
  "$tool" on >/dev/null 2>&1 || "$tool" on
}

# With the library a stream is on FIFOs before its moment comes, but in every fourth four. On a busy machine 150 ms are over
# before the agents have met.
await_fifos() {
  local i
  for ((i = 0; i < 100; i++)); do
    [[ -s $work/upgrades && $(<"$work/upgrades") == *"upgraded fd"* ]] && return 0
    sleep 0.02
  done
}

# round NUMBER. Who dies: the sender, the receiver, and either while both directions flow by poll.
# In every second four one end shares its socket with a forked child; in every third, with the
# library, `xenloop off` and `on` flip the routes.
round() {
  local kind=$(($1 % 4)) four=$(($1 / 4)) seed=$RANDOM victim survivor flipper=
  local -a receiver_env=(env "XENLOOP_LOG=$work/upgrades") sender_env=(env "XENLOOP_LOG=$work/upgrades")
  if ((four % 2 == 1)); then
    if ((RANDOM % 2)); then
      receiver_env+=("STREAM_CHECK_FORK=$((1 + RANDOM % 200))")
    else
      sender_env+=("STREAM_CHECK_FORK=$((1 + RANDOM % 200))")
    fi
  fi
  pick_port port
  rm -f "$work/accepted" "$work/upgrades"
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
  [[ $mode == native ]] || ((four % 4 == 3)) || await_fifos
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
    : >"$work/calm"
    wait "$flipper"
    rm "$work/calm"
  fi
  # Killed before it connected? Then nobody else would, and the receiver would wait for ever.
  [[ $victim == receiver ]] || (exec 9<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || true
  finish "$survivor"
  # A killed peer shows itself as an end or as a reset; both are right answers of TCP.
  ((finished == 0 || finished == 3)) ||
    fail "round $1 (E2E_SEED=$E2E_SEED): the $survivor ended with $finished"
}

# Natively and with the library, each has half of the time that there is for so many moments; about as much again is for
# the last rounds, which may be long, and for all else.
scenario() {
  local i begun=$SECONDS
  local share=$((${E2E_SECONDS:-$((110 * patience))} * 55 * this_time / (200 * moments)))
  for ((i = 0; i < this_time; i++)); do
    ((i < 4 || SECONDS - begun < share)) || break
    round $i
  done
  [[ $mode == native ]] || ((done_moments += i))
  echo "all rounds right"
}

this_time=$(((moments * 3 + 3) / 4))
both scenario XENLOOP_UPGRADE_AFTER=2
expect_fifo stream-check
this_time=$((moments - this_time))
both scenario XENLOOP_SWITCH_EVERY=20
expect_fifo stream-check
echo "$done_moments of $moments moments with the library (E2E_SEED=$E2E_SEED)"

#!/usr/bin/env bash
# Whole transfers of a verifiable stream, one way and both ways, under each setting of the library:
# every byte in its place, and the library's own accounts add up to exactly the bytes of the
# programs.
. "$(dirname "$0")/lib.sh"
check=$build/bin/stream-check
[[ -x $check ]] || fail "$check is missing (build it first)"
one_way=100000000
each_way=30000000

# transfer RECEIVE-VERB SEND-VERB BYTES
transfer() {
  pick_port port
  start receiver "$check" "$1" "$port" 42 $([[ $1 == receive ]] || echo "$3")
  listening "$port"
  run "$check" "$2" "$port" 42 "$3"
  finish receiver
  ((finished == 0)) || fail "the receiver ended with $finished"
  cat "$work/$mode.receiver.log"
}

scenario() {
  transfer receive send $one_way
  transfer both-receive both-send $each_way
}

# accounts: what was sent and what was received, by either route, is what the programs moved.
accounts() {
  [[ ${E2E_NATIVE:-} == 1 ]] && return
  local sent received moved=$((one_way + 8 + 2 * each_way))
  sent=$(jq -s 'map(.tcp_sent + .fifo_sent) | add' "$stats")
  received=$(jq -s 'map(.tcp_received + .fifo_received) | add' "$stats")
  ((sent == moved && received == moved)) ||
    fail "by the stats $sent bytes sent and $received received; in truth $moved each"
}

way=both
for setting in XENLOOP=on XENLOOP_UPGRADE_AFTER=0 XENLOOP_UPGRADE_AFTER=1000 XENLOOP_SPIN_US=0 \
  XENLOOP_FIFO_BYTES=4096 XENLOOP_SWITCH_EVERY=50 XENLOOP_SWITCH_EVERY=3; do
  echo "with $setting"
  $way scenario "$setting"
  way=again
  [[ $setting == *=3 ]] || expect_fifo stream-check      # =3: there may be no time to use a FIFO
  accounts
  [[ ${E2E_NATIVE:-} != 1 ]] || break
done
for setting in XENLOOP=off XENLOOP_OFFERS=refuse; do
  echo "with $setting"
  again scenario "$setting"
  expect_no_fifo "$setting"
  [[ ${E2E_NATIVE:-} != 1 ]] || break
done

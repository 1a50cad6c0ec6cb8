#!/usr/bin/env bash
# mosquitto: one broker between a publisher of many messages and several subscribers, at each quality
# of service, large retained messages, a subscriber that goes away.
. "$(dirname "$0")/../../e2e/lib.sh"
need mosquitto mosquitto_pub mosquitto_sub
numbers 5000000 >"$work/large"
seq -f 'message %g with a little more text in it' 1 20000 >"$work/messages"

scenario() {
  pick_port port
  printf '%s\n' "listener $port 127.0.0.1" 'allow_anonymous true' 'max_queued_messages 0' \
    'max_inflight_messages 100' 'log_dest stderr' 'log_type error' 'log_type warning' 'log_type subscribe' \
    'sys_interval 0' "user $(id -un)" >"$work/mosquitto.conf"
  start broker mosquitto -c "$work/mosquitto.conf"
  listening "$port"
  local at=(-h 127.0.0.1 -p "$port") quality i wanted=0 subscribers=()
  for quality in 0 1 2; do
    subscribers=()
    for i in 1 2 3; do
      run mosquitto_sub "${at[@]}" -q "$quality" -t "lines/$quality" -C 20000 >"$work/got-$i" &
      subscribers+=($!)
    done
    wanted=$((wanted + 3))
    eventually subscribed "$wanted"
    run mosquitto_pub "${at[@]}" -q "$quality" -t "lines/$quality" -l <"$work/messages"
    wait "${subscribers[@]}"
    sha256sum <"$work/got-1"; sha256sum <"$work/got-2"; sha256sum <"$work/got-3"
  done
  for i in 1 2 3; do run mosquitto_pub "${at[@]}" -q 1 -r -t "large/$i" -f "$work/large"; done
  run mosquitto_sub "${at[@]}" -q 1 -t 'large/+' -C 3 -N | sha256sum
  run mosquitto_sub "${at[@]}" -q 1 -t 'large/+' -C 1 -N | sha256sum
  stop broker
}

# subscribed COUNT: the broker has said so often that it took a subscription.
subscribed() { (($(sed -n '/lines\//p' "$work/$mode.broker.log" | wc -l) >= $1)); }

both scenario
expect_fifo mosquitto mosquitto_pub mosquitto_sub
again scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo mosquitto mosquitto_pub mosquitto_sub

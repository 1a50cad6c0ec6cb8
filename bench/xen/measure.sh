# The measurements between two guests of a running lab; run by bench/xen/run through the lab's
# tests/xen/lib/one_test.sh, whose words it uses (guest, listening, note, fail). Both guests' ends
# are `xenloop-bench worker`, the same for both carriers. $samples gets a line a measurement.
source lib/programs.sh
bench_limit=40
seconds=${bench_seconds:-1.5} warmup=${bench_warmup:-1} repetitions=${bench_repetitions:-5}
wants() { [[ -z ${bench_only:-} || ,$bench_only, == *",$1,"* ]]; }

ready_for_programs
limit=$bench_limit
for name in a b; do
  needs $name xenloop-bench
  # What `cmake --install` puts into modprobe.d: memory that the guest's programs may grant.
  guest $name "echo $(sed -n 's/.*limit=//p' "$bench_source/tools/system/modprobe-xenloop.conf") >/sys/module/xen_gntalloc/parameters/limit"
  # The rival as a good administrator has it: segmentation and checksums left to the other end.
  features=$(guest $name 'ethtool -k eth0 2>/dev/null') || features=""
  for feature in tx-checksumming tcp-segmentation-offload generic-segmentation-offload; do
    [[ -z $features || $features == *"$feature: on"* ]] || fail "$name: netfront without $feature"
  done
  note "$name: $(guest $name 'uname -r'), $([[ $features ]] && echo 'GSO and checksum offload on' || echo 'offloads not looked at (no ethtool)'), $(guest $name 'ls /sys/class/net/eth0/queues | grep -c tx') queue(s)"
done

port=20000
# end NAME CONFIG ENVIRONMENT: the shell line of one end; what it says goes to /tmp/bench.out there.
end() {
  printf "rm -f /tmp/bench.* /tmp/stats.json; cat >/tmp/bench.json <<'CONFIG'\n%s\nCONFIG\n" "$1"
  printf 'run() { env %s xenloop-bench worker "$(cat /tmp/bench.json)" >/tmp/bench.out 2>/tmp/bench.err; }\n' "$2"
}
# How an end tells its result: what it printed, then what its library counted.
said='cat /tmp/bench.out; cat /tmp/stats.json 2>/dev/null || :'

# measure CASE CARRIER KEY CONFIG [ENVIRONMENT]: one sample.
measure() {
  local case_id=$1 carrier=$2 key=$3 config=$4 environment=${5:-} server client problem=""
  port=$((port + 1))
  [[ $carrier != libxenloop ]] || environment="$with_library $environment"
  config=$(jq -c --argjson port $port --arg host "$(address b)" --argjson seconds "$seconds" \
    --argjson warmup "$warmup" '{carrier: "tcp", message_bytes: 64, warmup_seconds: $warmup, warmup_messages: 100,
      seconds: $seconds, host: $host, port: $port, counts: true} + .' <<<"$config")
  guest b "$(end "$(jq -c '. + {server: true}' <<<"$config")" "$environment")
    (trap '' HUP; run; echo \$? >/tmp/bench.status) </dev/null >/dev/null 2>&1 &
    i=0; until grep -qs ready /tmp/bench.out || [ \$i -gt 400 ]; do usleep 20000; i=\$((i + 1)); done" ||
    problem="the server did not start"
  client=$(guest a "$(end "$config" "$environment")
    run || { status=\$?; cat /tmp/bench.err; dmesg | tail -n 1; echo \"status \$status\"; exit 1; }
    $said") || problem="client (status $? here): $(tail -n 3 <<<"$client" | tr '\n' ' ')"
  server=$(guest b "i=0; until [ -s /tmp/bench.status ] || [ \$i -gt 400 ]; do usleep 20000; i=\$((i + 1)); done
    [ \"\$(cat /tmp/bench.status)\" = 0 ] || { cat /tmp/bench.err; kill -9 \$(pidof xenloop-bench); exit 1; }
    $said") || problem="${problem:-server: $(tail -n 1 <<<"$server")}"
  jq -n -c --arg case_id "$case_id" --arg carrier "$carrier" --arg key "$key" --arg problem "$problem" \
    --arg client "$client" --arg server "$server" '
    def lines: [split("\n")[] | fromjson?];
    def sum(f): map(f // 0) | add // 0;
    ($client | lines) as $a | ($server | lines) as $b
    | ($a | map(.result // empty) | first // {}) as $result
    | ([$a[], $b[]] | map(select(has("fifo_sent")))) as $stats
    | {case_id: $case_id, carrier: $carrier, value: ($result[$key] // 0),
       p99: (if $key == "p50_us" then $result.p99_us // 0 else 0 end),
       routes: {processes: ($stats | length), connections: ($stats | sum(.connections)),
                upgraded: ($stats | sum(.upgraded)), fifo_sent: ($stats | sum(.fifo_sent)),
                tcp_sent: ($stats | sum(.tcp_sent))},
       extra: (($result.counted // {} | with_entries(.key |= "client: " + .))
               + ($b | map(.counted // empty) | first // {} | with_entries(.key |= "server: " + .))),
       problem: (if $problem == "" and ($result | has($key) | not) then "no result" else $problem end)}' |
    tee -a "$samples" | jq -r '"\(.case_id) \(.carrier) \(.value) \(.problem)"'
}
# both CASE KEY CONFIG [ENVIRONMENT]: both carriers, one after the other.
both() {
  wants "$1" || return 0
  measure "$1" TCP "$2" "$3"
  measure "$1" libxenloop "$2" "$3" "${4:-}"
}

round() {
  # A busy guest takes the processor from Dom0, whose work netfront needs: the rival is netfront at
  # its best, with sleeping ends; with busy ones it stands beside.
  if wants xen-busy; then
    measure xen-busy TCP p50_us '{"work": "rtt"}'
    measure xen-busy "TCP, ends busy" p50_us '{"work": "rtt", "busy": true}'
    measure xen-busy libxenloop p50_us '{"work": "rtt", "busy": true}'
  fi
  both xen-asleep p50_us '{"work": "rtt"}' XENLOOP_SPIN_US=0
  both xen-transactions per_second '{"work": "rtt"}'
  both xen-stream gb_per_s '{"work": "stream", "message_bytes": 65536}'
  both xen-connect per_second '{"work": "connect", "connections": 2000}'
}
sweeps() {
  local bytes
  for bytes in 64 256 1024 4096 16384 65536; do
    both "xen-sweep-$bytes" gb_per_s "{\"work\": \"stream\", \"message_bytes\": $bytes}"
  done
  for bytes in 64 128 256 512 1024 2048; do
    wants "xen-fifo-sweep-$bytes" || continue
    ((bytes != 64)) || measure "xen-fifo-sweep-64" TCP gb_per_s '{"work": "stream", "message_bytes": 65536}'
    measure "xen-fifo-sweep-$bytes" libxenloop gb_per_s '{"work": "stream", "message_bytes": 65536}' \
      "XENLOOP_XEN_FIFO_BYTES=$((bytes * 1024))"
  done
}
for ((repetition = 1; repetition <= repetitions; repetition++)); do
  round
  ((repetition > ${bench_sweeps:-2})) || sweeps
done

#!/usr/bin/env bash
# sockperf over TCP with its own data integrity check: ping-pong, under load, throughput; one
# blocking socket, one non-blocking, and two watched by epoll, poll and select. Nothing dropped or
# doubled.
. "$(dirname "$0")/lib.sh"
need sockperf

# measure SERVER-OPTIONS -- CLIENT-OPTIONS
measure() {
  local from_server=() status=0
  while [[ $1 != -- ]]; do from_server+=("$1"); shift; done
  shift
  start sockperf sockperf server "${from_server[@]}"
  listening "$port"
  run sockperf "$@" -t 1 >"$work/$mode.client.log" 2>&1 || status=$?
  local described=${*//$port/PORT}
  echo "sockperf ${described//$work\//}: exit $status"
  [[ $1 == throughput ]] || grep -o '# dropped messages.*' "$work/$mode.client.log"
  absent 'error|integrity.*fail|corrupt' "$work/$mode.client.log"
  stop sockperf INT
}

scenario() {
  pick_port port
  pick_port second
  local one=(--tcp -i 127.0.0.1 -p "$port") way
  printf 'T:127.0.0.1:%d\nT:127.0.0.1:%d\n' "$port" "$second" >"$work/feed"
  # sockperf plans for 600,000 messages a second and ends with "_seqN > m_maxSequenceNo" beyond that.
  local paced=(--mps 100000)
  measure "${one[@]}" -- ping-pong "${one[@]}" "${paced[@]}" --data-integrity
  measure "${one[@]}" -- ping-pong "${one[@]}" -m 20000 -r 10000 --data-integrity
  measure "${one[@]}" -- under-load "${one[@]}" --mps 20000
  measure "${one[@]}" --nonblocked -- under-load "${one[@]}" --mps 20000 --nonblocked
  measure "${one[@]}" -- throughput "${one[@]}" -m 1400
  for way in e p s; do
    measure -f "$work/feed" -F $way -- ping-pong -f "$work/feed" -F $way "${paced[@]}"
  done
  measure -f "$work/feed" -F e -- under-load -f "$work/feed" -F e --mps 10000
}

both scenario
expect_fifo sockperf

#!/usr/bin/env bash
# DNS over TCP: nsd with two server processes, dnsperf with many short and with a few long
# connections. Every query is answered.
. "$(dirname "$0")/../../e2e/lib.sh"
need nsd dnsperf
{
  printf '%s\n' '$ORIGIN example.org.' '$TTL 60' '@ SOA ns admin 1 60 60 60 60' '@ NS ns' 'ns A 127.0.0.1'
  for i in {1..2000}; do echo "h$i A 10.0.$((i / 250)).$((i % 250))"; done
  for i in {1..40}; do
    printf 't%d TXT' "$i"
    for j in {1..30}; do printf ' "%s"' "$(printf "text $i $j %.0s" {1..12})"; done
    echo
  done
} >"$work/zone"
{ for i in {1..2000}; do echo "h$i.example.org A"; done
  for i in {1..40}; do echo "t$i.example.org TXT"; done
  echo "none.example.org A"; } >"$work/queries"

scenario() {
  pick_port port
  cat >"$work/nsd.conf" <<END
server:
  ip-address: 127.0.0.1
  port: $port
  do-ip6: no
  server-count: 2
  tcp-count: 200
  username: ""
  chroot: ""
  zonesdir: "$work"
  database: ""
  zonelistfile: "$work/zone.list"
  pidfile: "$work/nsd.pid"
  xfrdfile: "$work/xfrd.state"
  xfrdir: "$work"
  verbosity: 0
remote-control:
  control-enable: no
zone:
  name: example.org
  zonefile: zone
END
  start nsd nsd -d -c "$work/nsd.conf"
  listening "$port"
  local clients
  for clients in "-c 1 -q 1 -n 2" "-c 4 -q 40 -n 10" "-c 60 -q 60 -n 4" "-c 100 -q 100 -T 2 -n 4"; do
    # shellcheck disable=SC2086
    run dnsperf -m tcp -s 127.0.0.1 -p "$port" -d "$work/queries" $clients -t 20 >"$work/$mode.dnsperf.log" 2>&1
    grep -E 'Queries (sent|completed|lost)|Response codes|Average packet size' "$work/$mode.dnsperf.log" \
      | sed 's/  */ /g'
  done
  stop nsd
}

both scenario
expect_fifo nsd dnsperf
again scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo nsd dnsperf

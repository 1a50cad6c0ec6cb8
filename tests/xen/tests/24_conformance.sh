# The conformance program's transfer between the guests, in both families: as the kernel has it, with
# every connection upgraded (either end fails if it is not on FIFOs), and with routes that change at
# every marked point.
# limit: 300
source lib/programs.sh
needs a xenloop-conformance
ready_for_programs
limit=90
port=7500
for mode in native local switching; do
  library="XENLOOP_CONFORMANCE_MODE=$mode"
  [[ $mode == native ]] || library+=" LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libxenloop.so XENLOOP_TEST_POINTS=1 XENLOOP_UPGRADE_AFTER=1000000"
  for to in "$(address b)" "$(address6 b)"; do
    port=$((port + 1))
    guest b "rm -f /tmp/server.*; setsid sh -c 'env $library xenloop-conformance --seconds=$((60 * patience)) --role=server --address=$to --port=$port; echo \$? >/tmp/server.status' >/tmp/server.log 2>&1 </dev/null &"
    listening b $port
    said=$(guest a "env $library xenloop-conformance --seconds=$((60 * patience)) --role=client --address=$to --port=$port") || fail "$mode to $to: $said; server: $(guest b 'cat /tmp/server.log')"
    ended b server
    note "$mode to $to: $(tail -n 1 <<<"$said")"
  done
done

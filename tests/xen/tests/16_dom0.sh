# Dom0 is a peer like any other: verified streams between a program of Dom0 and one of a guest, either
# way, by granted pages.
# limit: 200
source lib/programs.sh
needs dom0 stream-check
ready_for_programs
limit=60
meet a dom0
a=$(domid a)
knows a "$(address dom0)" 0
knows dom0 "$(address a)" "$a"
dom0 'rm -f /tmp/stats.json; : >/tmp/stats.json'
# fifo NAME: did the program that ended last there move bytes by FIFO?
fifo() { in_domain "$1" 'tail -n 1 /tmp/stats.json' | jq -r '.fifo_sent + .fifo_received'; }
port=7650
for pair in 'a dom0' 'dom0 a'; do
  read -r from to <<<"$pair"
  port=$((port + 1))
  serve "$to" receiver "stream-check receive 0.0.0.0:$port 42"
  listening "$to" $port
  in_domain "$from" "$with_library stream-check send $(address "$to"):$port 42 20000000" || fail "$from to $to: the sender ended with $?"
  ended "$to" receiver
  bytes="$(fifo "$from") $(fifo "$to")"
  note "$from to $to: FIFO bytes $bytes of 20000000"
  for count in $bytes; do ((count > 1000000)) || fail "$from to $to: not by pages: $(in_domain "$from" 'tail -n 1 /tmp/stats.json')"; done
done

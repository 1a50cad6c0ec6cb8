# Unmodified programs between the guests: each works, and moves bytes through granted pages.
# limit: 480
# programs: iperf3 redis-server redis-benchmark redis-cli nginx wrk curl
source lib/programs.sh
ready_for_programs
limit=100
there=$(address b)

needs b iperf3
serve b iperf3 "iperf3 -s -1 -p 7201"
listening b 7201
# An amount and not a time: on a busy machine seconds may pass before the stream is upgraded.
note "iperf3: $(guest a "$with_library iperf3 -c $there -p 7201 -n 50M -f M" | awk '/receiver/ { print $7, $8 }')"
ended b iperf3
expect_fifo iperf3
# A send buffer much smaller than the FIFO: its sender waits for room that the receiver does not know of.
serve b iperf3 "iperf3 -s -1 -p 7204"
listening b 7204
note "iperf3, 64 KiB send buffer: $(guest a "$with_library iperf3 -c $there -p 7204 -n 20M -w 64K -f M" | awk '/receiver/ { print $7, $8 }')"
ended b iperf3
expect_fifo 'iperf3 with a small window'

needs b redis-server
serve b redis "redis-server --port 7202 --bind 0.0.0.0 :: --protected-mode no --save \"\" --dir /tmp"
listening b 7202
guest a "$with_library redis-benchmark -h $there -p 7202 -q -c 4 -n 4000 -t set,get" | tr '\r' '\n' | grep 'per second'
seq 1 2000 | sed 's/.*/SET mass:& value-&/' >"$run/logs/mass"
push a "$run/logs/mass" /tmp/mass
[[ $(guest a "$with_library redis-cli -h $there -p 7202 --pipe </tmp/mass" | tail -n 1) == *'replies: 2000'* ]] || fail "mass insertion"
[[ $(guest a "$with_library redis-cli -h $(address6 b) -p 7202 get mass:1999") == value-1999 ]]
guest a "redis-cli -h $there -p 7202 shutdown nosave" || true
ended b redis
expect_fifo redis

needs b nginx; needs a wrk curl
guest b "mkdir -p /tmp/www /var/log/nginx /var/lib/nginx && head -c 1024 /dev/zero >/tmp/www/1k && head -c 3000000 /dev/urandom >/tmp/www/3m
  printf 'pid /tmp/nginx.pid; error_log /tmp/nginx.err; daemon off; user root; worker_processes 1; events {} http { access_log off; server { listen 7203; root /tmp/www; } }' >/tmp/nginx.conf"
serve b web 'nginx -c /tmp/nginx.conf'
listening b 7203
answer=$(guest a "$with_library wrk -t 1 -c 4 -d 3 http://$there:7203/1k")
[[ $answer != *'Socket errors'* && $answer != *Non-2xx* ]] || fail "$answer"
note "nginx under wrk: $(awk '/Requests\/sec/ { print $2, "requests/s" }' <<<"$answer")"
[[ $(guest a "$with_library curl -sS http://$there:7203/3m | sha256sum") == "$(guest b 'sha256sum </tmp/www/3m')" ]] || fail "a wrong file"
guest b 'kill -QUIT $(cat /tmp/nginx.pid)'
ended b web
expect_fifo nginx

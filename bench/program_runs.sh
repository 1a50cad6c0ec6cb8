# Real programs over one carrier, once: sourced by bench/programs. A function run_CASE starts the
# server, runs the client for a bounded time, stops the server, and leaves the figure in $figure
# (or the reason why there is none). Every process has its files in $directory and its server
# bound to 127.0.0.1.
# shellcheck shell=bash
# The sourcing script sets the sizes, $bench, $library and $directory, and reads $figure:
# shellcheck disable=SC2034,SC2154

server_pid=

# The command prefix of a carrier, in ${with[@]}: the library is in server and client alike.
choose_carrier() {
  with=(env -u LD_PRELOAD)
  rm -f "$directory/stats"
  if [[ $1 == libxenloop ]]; then
    with+=(LD_PRELOAD="$library" XENLOOP_STATS="$directory/stats")
  fi
}

stop_server() {
  [[ -n $server_pid ]] || return 0
  kill -TERM "$server_pid" 2>/dev/null
  local tries
  for ((tries = 0; tries < 100; ++tries)); do
    kill -0 "$server_pid" 2>/dev/null || break
    sleep 0.05
  done
  kill -KILL "$server_pid" 2>/dev/null
  wait "$server_pid" 2>/dev/null
  server_pid=
}

# wait_until SECONDS COMMAND...: until the command succeeds; fails when the time is over or the
# server has ended.
wait_until() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) && kill -0 "$server_pid" 2>/dev/null || return 1
    sleep 0.05
  done
}

# Called with the carrier's name, as all that follow.
run_redis_get() {
  local port client csv
  port=$("$bench" port)
  choose_carrier "$1"
  "${with[@]}" redis-server --port "$port" --bind 127.0.0.1 --unixsocket "$directory/redis.sock" \
    --save '' --appendonly no --daemonize no --dir "$directory" >"$directory/redis.log" 2>&1 &
  server_pid=$!
  if ! wait_until 10 redis-cli -h 127.0.0.1 -p "$port" ping; then
    figure="redis-server does not start"
    stop_server
    return
  fi
  client=(-h 127.0.0.1 -p "$port")
  [[ $1 == "UNIX socket" ]] && client=(-s "$directory/redis.sock")
  redis-cli -h 127.0.0.1 -p "$port" set key:__rand_int__ xxx >/dev/null  # what GET asks for
  csv=$(timeout "$patience" "${with[@]}" redis-benchmark "${client[@]}" -t get -c 20 -P 1 \
    -n "$redis_requests" --csv 2>"$directory/redis-benchmark.log")
  stop_server
  figure=$(awk -F'"' '$2 == "GET" { print $4 }' <<<"$csv")
  [[ -n $figure ]] || figure="redis-benchmark failed"
}

write_nginx_config() {
  local user=
  # Otherwise the workers of a master started by root belong to somebody else than the client.
  [[ $(id -u) == 0 ]] && user="user $(id -un) $(id -gn);"
  mkdir -p "$directory/www"
  head -c 1024 /dev/zero | tr '\0' x >"$directory/www/1k"
  cat >"$directory/nginx.conf" <<CONFIG
$user
daemon off;
worker_processes 2;
pid $directory/nginx.pid;
error_log $directory/nginx-error.log;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000000;
  client_body_temp_path $directory/nginx-body;
  proxy_temp_path $directory/nginx-proxy;
  fastcgi_temp_path $directory/nginx-fastcgi;
  uwsgi_temp_path $directory/nginx-uwsgi;
  scgi_temp_path $directory/nginx-scgi;
  server { listen 127.0.0.1:$1; root $directory/www; }
}
CONFIG
}

accepts_connections() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

run_nginx_1k() {
  local port output
  port=$("$bench" port)
  choose_carrier "$1"
  write_nginx_config "$port"
  "${with[@]}" nginx -c "$directory/nginx.conf" -e "$directory/nginx-error.log" \
    >"$directory/nginx.log" 2>&1 &
  server_pid=$!
  if ! wait_until 10 accepts_connections "$port"; then
    figure="nginx does not start"
    stop_server
    return
  fi
  output=$(timeout "$patience" "${with[@]}" wrk -t "$wrk_threads" -c "$wrk_connections" \
    -d "${wrk_seconds}s" "http://127.0.0.1:$port/1k" 2>&1)
  stop_server
  figure=$(awk '/^Requests\/sec:/ { print $2 }' <<<"$output")
  # Answers that are not 200, or sockets that failed, make the figure worthless.
  grep -E 'Non-2xx|Socket errors' <<<"$output" >"$directory/wrk-errors" && figure="wrk: errors"
  [[ -n $figure ]] || figure="wrk failed"
}

# run_iperf CARRIER CLIENT-OPTIONS...
run_iperf() {
  local port carrier=$1
  shift
  port=$("$bench" port)
  choose_carrier "$carrier"
  "${with[@]}" iperf3 -s -1 -B 127.0.0.1 -p "$port" --forceflush >"$directory/iperf3.log" 2>&1 &
  server_pid=$!
  if ! wait_until 10 grep -q listening "$directory/iperf3.log"; then
    figure="iperf3 does not start"
    stop_server
    return
  fi
  timeout "$patience" "${with[@]}" iperf3 -c 127.0.0.1 -p "$port" -t "$iperf_seconds" -J "$@" \
    >"$directory/iperf3.json" 2>&1
  figure=$("$bench" number "$directory/iperf3.json" /end/sum_received/bits_per_second 2>/dev/null |
    awk '{ printf "%.4f", $1 / 1e9 }')
  # With -1 the server ends by itself, right after the client.
  wait_until 2 false
  stop_server
  [[ -n $figure ]] ||
    figure="iperf3 failed: $(sed -n 's/.*"error":[^"]*"\([^"]*\)".*/\1/p' "$directory/iperf3.json")"
}

run_iperf3() { run_iperf "$1"; }
run_iperf3_p4() { run_iperf "$1" -P 4; }

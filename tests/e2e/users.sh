#!/usr/bin/env bash
# Server and client of different users: the library may or may not accelerate that (only where it is
# safe), but the results are the same, no file of one is usable by the other, and nobody is told
# off.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli redis-benchmark nginx curl
need_root
chmod 711 "$work"

nobody=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
numbers 5000000 >"$work/5m"
chmod 644 "$work/5m"

session() {
  for i in {1..400}; do echo "set k$i v$((i * i))"; echo "get k$i"; done
  echo "dbsize"
}

# redis_as SERVER-USER-PREFIX -- CLIENT-USER-PREFIX
redis_as() {
  local server_user=()
  while [[ $1 != -- ]]; do server_user+=("$1"); shift; done
  shift
  pick_port port
  start redis "${server_user[@]}" redis-server --port "$port" --bind 127.0.0.1 --save '' --dir /
  listening "$port"
  session | run "$@" redis-cli -p "$port" | sha256sum
  run "$@" redis-cli -p "$port" -x set big <"$work/5m"
  run "$@" redis-cli -p "$port" get big | sha256sum
  run "$@" redis-benchmark -p "$port" -q -c 8 -n 5000 -t incr >"$work/$mode.benchmark.log" 2>&1
  run "$@" redis-cli -p "$port" get counter:__rand_int__
  stop redis
}

nginx_other_user() {
  mkdir -p "$work/tmp"
  pick_port port
  cat >"$work/nginx.conf" <<END
user nobody nogroup; worker_processes 2; daemon off; pid $work/nginx.pid; error_log stderr warn;
events { }
http {
  access_log off; sendfile on;
  client_body_temp_path $work/tmp/1; proxy_temp_path $work/tmp/2; fastcgi_temp_path $work/tmp/3;
  uwsgi_temp_path $work/tmp/4; scgi_temp_path $work/tmp/5;
  server { listen 127.0.0.1:$port; root $work; }
}
END
  start nginx nginx -e stderr -c "$work/nginx.conf" -p "$work"
  listening "$port"
  run curl -sS "http://127.0.0.1:$port/5m" "http://127.0.0.1:$port/5m" | sha256sum
  run "${nobody[@]}" curl -sS "http://127.0.0.1:$port/5m" "http://127.0.0.1:$port/5m" | sha256sum
  stop nginx QUIT
}

scenario() {
  redis_as "${nobody[@]}" --
  redis_as -- "${nobody[@]}"
  redis_as "${nobody[@]}" -- "${nobody[@]}"
  nginx_other_user
}

both scenario
again scenario XENLOOP_UPGRADE_AFTER=0
again scenario XENLOOP_UPGRADE_AFTER=0 XENLOOP_OTHER_USERS=on
[[ ${E2E_NATIVE:-} == 1 ]] || echo "FIFO bytes: $(fifo_bytes)"

# A user id that systemd gives to a service of DynamicUser=, and root, which shares no memory with it: the end that would
# make the offer says why nothing comes of it.
[[ ${E2E_NATIVE:-} != 1 ]] || exit 0
[[ -n $python ]] || skip "python3 is not installed"
cat >"$work/ends.py" <<'END'
import socket, sys
if sys.argv[1] == "server":
    end = socket.create_server(("127.0.0.1", int(sys.argv[2]))).accept()[0]
    while block := end.recv(4096):
        end.sendall(block)
else:
    end = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    for _ in range(2000):
        end.sendall(b"x" * 100)
        assert len(end.recv(100, socket.MSG_WAITALL)) == 100
END
pick_port port
: >"$stats"
natively
start dynamic setpriv --reuid=61184 --regid=61184 --clear-groups env LD_PRELOAD="$library" XENLOOP_STATS="$stats" \
  "$python" "$work/ends.py" server "$port"
listening "$port"
run env LD_PRELOAD="$library" "$python" "$work/ends.py" client "$port"
finish dynamic
[[ $(jq -s 'map(.never_upgraded["peer belongs to another user"] // 0) | add' "$stats") == 1 ]] ||
  fail "the service's end says: $(cat "$stats")"
echo "ok a user that root shares no memory with: said"

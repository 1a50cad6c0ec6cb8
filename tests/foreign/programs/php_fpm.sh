#!/usr/bin/env bash
# php-fpm over TCP: behind nginx with kept FastCGI connections and with one a request, and asked
# directly. Its workers inherit the listening socket; those of one pool are replaced after some
# requests (which with kept connections would lose requests natively, too).
. "$(dirname "$0")/../../e2e/lib.sh"
need nginx cgi-fcgi curl ab
fpm=$(compgen -c php-fpm | sort | head -n 1) || skip "php-fpm is not installed"
mkdir "$work/www"
cat >"$work/www/digest.php" <<'END'
<?php $body = file_get_contents('php://input'); echo strlen($body), ' ', hash('sha256', $body), "\n";
END
cat >"$work/www/large.php" <<'END'
<?php for ($i = 0; $i < 400000; $i++) echo "line $i of a long answer\n";
END
numbers 6000000 >"$work/body"

configure() {
  [[ $(id -u) == 0 ]] && echo "user $(id -un) $(id -gn);"
  cat <<END
worker_processes 2; daemon off; pid $work/nginx.pid; error_log stderr warn;
events { worker_connections 256; }
http {
  access_log off; client_max_body_size 20m;
  client_body_temp_path $work/t1; proxy_temp_path $work/t2; fastcgi_temp_path $work/t3;
  uwsgi_temp_path $work/t4; scgi_temp_path $work/t5;
  upstream kept { server 127.0.0.1:$lasting_port; keepalive 2; }
  fastcgi_param SCRIPT_FILENAME $work/www\$fastcgi_script_name;
  fastcgi_param REQUEST_METHOD \$request_method;
  fastcgi_param CONTENT_TYPE \$content_type;
  fastcgi_param CONTENT_LENGTH \$content_length;
  server { listen 127.0.0.1:$kept_port; location / { fastcgi_pass kept; fastcgi_keep_conn on; } }
  server { listen 127.0.0.1:$each_port; location / { fastcgi_pass 127.0.0.1:$fpm_port; } }
}
END
}

scenario() {
  pick_port fpm_port
  pick_port lasting_port
  pick_port kept_port
  pick_port each_port
  configure >"$work/nginx.conf"
  cat >"$work/fpm.conf" <<END
[global]
error_log = /dev/stderr
log_level = warning
daemonize = no
[replaced]
user = www-data
group = nogroup
listen = 127.0.0.1:$fpm_port
pm = static
pm.max_children = 3
pm.max_requests = 60
[lasting]
user = www-data
group = nogroup
listen = 127.0.0.1:$lasting_port
pm = static
pm.max_children = 6
END
  start fpm "$fpm" -n -F -y "$work/fpm.conf"
  start nginx nginx -e stderr -c "$work/nginx.conf" -p "$work"
  listening "$fpm_port"; listening "$lasting_port"; listening "$kept_port"; listening "$each_port"
  local port
  for port in "$each_port" "$kept_port"; do
    local url=http://127.0.0.1:$port
    run curl -sS --data-binary "@$work/body" "$url/digest.php" "$url/digest.php" "$url/digest.php"
    run curl -sS "$url/large.php" "$url/large.php" | sha256sum
    run curl -sS -o /dev/null -w '%{http_code}\n' "$url/none.php"
    run ab -q -c 4 -n 600 "$url/digest.php" >"$work/$mode.ab.log" 2>&1
    grep -E '^(Complete|Failed|Non-2xx|HTML transferred)' "$work/$mode.ab.log"
  done
  for _ in 1 2 3; do
    run env REQUEST_METHOD=POST CONTENT_TYPE=text/plain CONTENT_LENGTH=6000000 \
      SCRIPT_FILENAME="$work/www/digest.php" cgi-fcgi -bind -connect "127.0.0.1:$fpm_port" <"$work/body"
    run env REQUEST_METHOD=GET SCRIPT_FILENAME="$work/www/large.php" \
      cgi-fcgi -bind -connect "127.0.0.1:$fpm_port" | sha256sum
  done
  stop nginx QUIT
  stop fpm QUIT
}

both scenario
expect_fifo php-fpm nginx
again scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo php-fpm nginx cgi-fcgi

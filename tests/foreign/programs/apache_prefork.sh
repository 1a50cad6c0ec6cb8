#!/usr/bin/env bash
# Apache with processes that accept in turn and are replaced all the time, keep-alive, sendfile, CGI
# programs that are forked beside live connections, and a graceful restart under load.
. "$(dirname "$0")/../../e2e/lib.sh"
modules=/usr/lib/apache2/modules
need apache2 ab curl
[[ -e $modules/mod_mpm_prefork.so ]] || skip "apache's prefork module is not installed"
mkdir "$work/www" "$work/cgi"
numbers 1024 >"$work/www/1k"
numbers 300000 >"$work/www/300k"
numbers 10000000 >"$work/www/10m"
printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n"\nexec sha256sum\n' >"$work/cgi/digest"
chmod 755 "$work/cgi/digest"

configure() {
  local module
  for module in mpm_prefork authz_core mime alias cgi; do
    echo "LoadModule ${module}_module $modules/mod_$module.so"
  done
  [[ $(id -u) != 0 ]] || printf 'User www-data\nGroup www-data\n'
  cat <<END
ServerRoot $work
ServerName localhost
DefaultRuntimeDir $work
PidFile $work/apache.pid
Mutex sem
ErrorLog /dev/stderr
TypesConfig /dev/null
Listen 127.0.0.1:$port
StartServers 4
MinSpareServers 2
MaxSpareServers 4
MaxRequestWorkers 12
MaxConnectionsPerChild 40
MaxKeepAliveRequests 500
EnableSendfile On
DocumentRoot $work/www
ScriptAlias /cgi/ $work/cgi/
<Directory $work>
  Require all granted
</Directory>
END
}

apache_bench() {
  run ab -q "$@" >"$work/$mode.ab.log" 2>&1
  grep -E '^(Complete|Failed|Write errors|Non-2xx|HTML transferred)' "$work/$mode.ab.log"
}

scenario() {
  pick_port port
  configure >"$work/apache.conf"
  start apache apache2 -DFOREGROUND -f "$work/apache.conf"
  listening "$port"
  local url=http://127.0.0.1:$port i
  apache_bench -k -c 6 -n 10000 "$url/1k"
  apache_bench -c 4 -n 1500 "$url/1k"
  apache_bench -k -c 3 -n 300 "$url/300k"
  run curl -sS "$url/10m" "$url/1k" "$url/300k" "$url/10m" | sha256sum
  for i in 1 2 3; do
    run curl -sS --data-binary "@$work/www/10m" "$url/cgi/digest" "$url/cgi/digest"
    run curl -sS -H 'Expect:' -H 'Transfer-Encoding: chunked' --data-binary "@$work/www/300k" "$url/cgi/digest"
  done
  run curl -sS --limit-rate 8M "$url/10m" >"$work/slow" &
  local slow=$!
  sleep 0.3
  kill -USR1 "${server[apache]}"
  wait $slow
  sha256sum <"$work/slow"
  eventually curl -sSf -o /dev/null "$url/1k"
  run curl -sS -o /dev/null -w '%{http_code}\n' "$url/none"
  stop apache
}

both scenario
expect_fifo apache2 ab curl
again scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo apache2 ab curl

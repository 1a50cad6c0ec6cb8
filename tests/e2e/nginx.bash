# Shared by the cases with an nginx in front: start_nginx. Sourced behind lib.sh.
nginx_errors=(-e stderr)
[[ $(nginx -h 2>&1) == *' -e filename'* ]] || nginx_errors=()   # before 1.19.5 it tries to open its own log

# start_nginx WORKERS LISTEN...: serves $work/www at 127.0.0.1:$port; LISTEN: further words for that, and directives.
start_nginx() {
  {
    [[ $(id -u) != 0 ]] || echo "user $(id -un) $(id -gn);"
    cat <<END
worker_processes $1; daemon off; pid $work/nginx.pid; error_log stderr warn;
events { worker_connections 512; }
http {
  access_log off; sendfile on; keepalive_requests 1000000;
  client_body_temp_path $work/t1; proxy_temp_path $work/t2; fastcgi_temp_path $work/t3;
  uwsgi_temp_path $work/t4; scgi_temp_path $work/t5;
  server { listen 127.0.0.1:$port ${*:2}; root $work/www; }
}
END
  } >"$work/nginx.conf"
  start nginx nginx "${nginx_errors[@]}" -c "$work/nginx.conf" -p "$work"
  listening "$port"
}

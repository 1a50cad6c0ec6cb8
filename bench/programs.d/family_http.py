"""nginx, haproxy and Node as HTTP servers, with wrk and curl."""
import getpass
import grp
import os
import signal
from functools import partial

import outputs
from rows import Row

PEERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")
SIZES = {"1k": 1 << 10, "100k": 100 << 10, "1m": 1 << 20}
TITLES = {"1k": "1 KiB", "100k": "100 KiB", "1m": "1 MiB"}
NGINX = """{user}
daemon off;
worker_processes 2;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {server}
}}
"""
HAPROXY = """global
  maxconn 2000
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen front
  bind 127.0.0.1:{port}
  server back 127.0.0.1:{back}
"""


def nginx(stage, server, port):
    """As Debian has it: sendfile and tcp_nopush. The workers run as whoever started it, since different
    users do not share memory."""
    folder = os.path.join(stage.folder, f"nginx-{port}")
    os.mkdir(folder)
    user = f"user {getpass.getuser()} {grp.getgrgid(os.getgid()).gr_name};" if os.geteuid() == 0 else ""
    config = stage.file(f"nginx-{port}.conf", NGINX.format(user=user, folder=folder, server=server))
    stage.server(["nginx", "-c", config, "-e", f"{folder}/error.log"], port=port)


def files_server(stage):
    port = stage.port()
    files = stage.workshop.folder("files")
    nginx(stage, f"server {{ listen 127.0.0.1:{port}; root {files}; }}", port)
    return port


def wrk(stage, port, path, connections, close=False):
    header = ["-H", "Connection: close"] if close else []
    return outputs.wrk(stage.client(["wrk", "-t", "1", "-c", str(connections), "-d", f"{max(1, round(stage.seconds))}s",
                                     *header, f"http://127.0.0.1:{port}/{path}"]))


def files(stage, size, connections, close):
    stage.workshop.file_of(size, SIZES[size])
    return wrk(stage, files_server(stage), size, connections, close)


def proxy(stage):
    stage.workshop.file_of("1k", SIZES["1k"])
    back, port = files_server(stage), stage.port()
    nginx(stage, f"""upstream back {{ server 127.0.0.1:{back}; keepalive 32; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port};
           location / {{ proxy_pass http://back; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}""", port)
    return wrk(stage, port, "1k", 20)


def haproxy(stage):
    stage.workshop.file_of("1k", SIZES["1k"])
    back, port = files_server(stage), stage.port()
    config = stage.file("haproxy.cfg", HAPROXY.format(port=port, back=back))
    stage.server(["haproxy", "-db", "-f", config], port=port, ends_by=signal.SIGUSR1)
    return wrk(stage, port, "1k", 20)


def curl(stage):
    size = (64 << 20) if stage.smoke else (2 << 30)
    path = os.path.join(stage.workshop.folder("files"), "large")
    if not os.path.exists(path):
        with open(path, "wb") as file:
            file.truncate(size)
    text = stage.client(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download} %{speed_download}\\n",
                         f"http://127.0.0.1:{files_server(stage)}/large"])
    return outputs.curl_bytes_per_second(text) / 1e6


def node(stage):
    port = stage.port()
    stage.server(["node", os.path.join(PEERS, "http_peer.js"), str(port)], port=port)
    return wrk(stage, port, "", 20)


def _files_row(size, connections, close):
    name = f"nginx-{size}" + ("-close" if close else "") + (f"-c{connections}" if connections != 20 else "")
    how = f"{connections} connections" if not close else "a connection a request"
    return Row(name, f"nginx {TITLES[size]}, {how}", "requests/s",
               partial(files, size=size, connections=connections, close=close),
               "two workers, sendfile and tcp_nopush; wrk -t 1", ("nginx", "wrk"), ("nginx-light", "wrk"),
               accelerated=not close, smoke=name == "nginx-1k")


def rows():
    found = [_files_row(size, 20, close) for close in (False, True) for size in SIZES]
    found.insert(2, _files_row("100k", 2, False))
    return found + [
        Row("nginx-proxy", "nginx as proxy to nginx, 1 KiB", "requests/s", proxy, "keep-alive both ways; wrk -c 20",
            ("nginx", "wrk"), ("nginx-light", "wrk")),
        Row("haproxy", "haproxy to nginx, 1 KiB", "requests/s", haproxy, "keep-alive both ways; wrk -c 20",
            ("haproxy", "nginx", "wrk"), ("haproxy", "nginx-light", "wrk")),
        Row("curl", "curl of 2 GiB from nginx", "MB/s", curl, "one connection, to /dev/null", ("curl", "nginx"),
            ("curl", "nginx-light"), smoke=True),
        Row("node", "Node http, 20 connections", "requests/s", node, "an answer of 1 KiB; wrk -c 20", ("node", "wrk"),
            ("nodejs", "wrk"))]

#!/usr/bin/env bash
# Python's http.server (a thread a connection, buffered file objects on the socket) with curl and
# with Python's own client; and asyncio streams, which live on epoll: by checksums.
. "$(dirname "$0")/lib.sh"
need curl
[[ -n $python ]] || skip "python3 is not installed"
mkdir "$work/www"
numbers 5000000 >"$work/www/5m"
numbers 300 >"$work/www/small"

cat >"$work/client.py" <<'END'
import hashlib, http.client, sys
digest = hashlib.sha256()
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=20)
for name in ["5m", "small"] * 10 + ["small"] * 30:
    connection.request("GET", "/" + name)
    answer = connection.getresponse()
    digest.update(answer.read())
    assert answer.status == 200
print("client", digest.hexdigest())
END
cat >"$work/echo.py" <<'END'
import asyncio, hashlib, sys
async def serve(reader, writer):
    while data := await reader.read(70000):
        writer.write(data)
        await writer.drain()
    writer.close()
async def one(port, number):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = hashlib.shake_256(str(number).encode()).digest(2000000)
    async def send():
        for i in range(0, len(body), 7001):
            writer.write(body[i:i + 7001])
            await writer.drain()
        writer.write_eof()
    _, back = await asyncio.gather(send(), reader.read(-1))
    writer.close()
    return back == body
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print("asyncio", await asyncio.gather(*[one(port, n) for n in range(8)]))
asyncio.run(main())
END

scenario() {
  pick_port port
  start http_server "$python" -u -c "
import functools, http.server, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
handler = functools.partial(Handler, directory='$work/www')
http.server.ThreadingHTTPServer(('127.0.0.1', $port), handler).serve_forever()"
  listening "$port"
  local url=http://127.0.0.1:$port
  run curl -sS "$url/5m" "$url/small" "$url/5m" "$url/5m" | sha256sum
  for _ in {1..20}; do run curl -sS "$url/5m" "$url/small"; done | sha256sum
  run "$python" "$work/client.py" "$port"
  run "$python" "$work/echo.py"     # both ends of eight connections in one process
  stop http_server
}

both scenario
expect_fifo python3 curl
again scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo python3 curl
again scenario XENLOOP_SWITCH_EVERY=7

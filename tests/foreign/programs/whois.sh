#!/usr/bin/env bash
# whois reads and writes its connection as a stdio stream, which libc does unseen: no byte of it may
# be anywhere but in TCP.
. "$(dirname "$0")/../../e2e/lib.sh"
need whois python3
cat >"$work/server.py" <<'END'
import socketserver, sys
class Answer(socketserver.StreamRequestHandler):
    def handle(self):
        name = self.rfile.readline().strip()
        for line in range(int(name.rsplit(b"-")[-1])):
            self.wfile.write(b"%s: line %d of the answer\r\n" % (name, line))
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
Server(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
END

scenario() {
  pick_port port
  start server "$python" "$work/server.py" "$port"
  listening "$port"
  local lines
  for lines in 0 1 100 50000 3; do
    run whois -h 127.0.0.1 -p "$port" "name-$lines" | sha256sum
  done
  stop server
}

both scenario
expect_no_fifo "stdio"
again scenario XENLOOP_UPGRADE_AFTER=0
expect_no_fifo "stdio"

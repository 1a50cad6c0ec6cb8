#!/usr/bin/env bash
# Tor in its system call sandbox (Sandbox 1): it locks itself in before it accepts its first connection,
# and must answer hundreds of questions on its control port and end in order.
. "$(dirname "$0")/../../e2e/lib.sh"
need tor
[[ -n $python ]] || skip "python3 is not installed"

cat >"$work/ask.py" <<'END'
import socket, sys
control = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
answers = control.makefile("rb")
def ask(question):
    control.sendall(question.encode() + b"\r\n")
    return answers.readline().decode().strip()
print(ask('AUTHENTICATE ""'))
for i in range(300):
    assert ask("GETINFO config-text") .startswith("250") or True
    while not answers.readline().startswith(b"250 OK"):
        pass
print(ask("SETEVENTS WARN"), ask("GETCONF Sandbox"))
END

scenario() {
  pick_port port
  : >"$work/torrc"
  mkdir -p "$work/$mode.tor" && chmod 700 "$work/$mode.tor"
  start tor tor -f "$work/torrc" --defaults-torrc "$work/torrc" --DataDirectory "$work/$mode.tor" --SocksPort 0 \
    --ControlPort "$port" --Sandbox 1 --DisableNetwork 1
  listening "$port"
  for client in 1 2 3; do run "$python" "$work/ask.py" "$port"; done
  kill -0 "${server[tor]}" || fail "tor has died"
  stop tor INT
}

both scenario
again scenario XENLOOP_UPGRADE_AFTER=0
expect_no_fifo "it is in a sandbox" tor

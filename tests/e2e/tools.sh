#!/usr/bin/env bash
# `xenloop stat`, `off`, `on` and `doctor` on live programs: a stream is seen from both ends with
# its route and growing counts, goes to TCP and back on request without losing a byte, and somebody
# else's programs obey neither. What doctor says of a program without the library is not an error.
# What is started while root has the machine switched off stays on TCP, too, and returns like the rest.
# In namespaces of its own (network, mounts): `off` must not reach what else runs on this machine.
. "$(dirname "$0")/own_namespaces.bash"
. "$(dirname "$0")/lib.sh"
check=$build/bin/stream-check
[[ -x $check ]] || fail "$check is missing (build it first)"
[[ ${E2E_NATIVE:-} != 1 ]] || { echo "nothing to run natively"; exit 0; }
copy_library
: >"$stats"; chmod 666 "$stats"
with_library

# streams JQ-CONDITION COUNT [RECEIVER SENDER]: so many of these two processes' streams in `stat`
# satisfy it.
streams() {
  local found
  found=$("$tool" stat --json | jq -s --argjson a "${server[${3:-receiver}]}" \
    --argjson b "${server[${4:-sender}]}" \
    "[.. | objects | select(.fd? and (.pid == \$a or .pid == \$b)) | select($1)] | length")
  [[ $found == "$2" ]]
}

pick_port port
start receiver "$check" both-receive "$port" 5 0
listening "$port"
start sender "$check" both-send "$port" 5 0
eventually streams '.route_send == "local" and .route_receive == "local" and .fifo_sent > 0' 2
"$tool" stat --json | head -c 2000
"$tool" stat | tee "$work/table" | head -n 20
grep -q "$port" "$work/table" || fail "the table does not show port $port"
"$tool" doctor "${server[sender]}" || fail "doctor: exit $?"
"$tool" doctor $$ >"$work/doctor.log" || true
[[ -s $work/doctor.log ]] || fail "doctor says nothing about a process without the library"

if [[ $(id -u) == 0 ]]; then
  setpriv --reuid=nobody --regid=nogroup --clear-groups "$tool" off >"$work/nobody.log" 2>&1 || true
  streams '.route_send == "local"' 2 || fail "another user could switch our streams off"
fi
"$tool" off
eventually streams '.route_send == "tcp" and .route_receive == "tcp"' 2
streams '.fallbacks > 0 and .reason != ""' 2 || fail "a fallback without a reason"
pick_port late_port
start late_receiver "$check" both-receive "$late_port" 6 0
listening "$late_port"
start late_sender "$check" both-send "$late_port" 6 0
pick_port short_port
start short_receiver "$check" receive "$short_port" 7
listening "$short_port"
run "$check" send "$short_port" 7 30000000
finish short_receiver
[[ $(fifo_bytes stream-check) == 0 ]] || fail "started while switched off, and used shared memory"
"$tool" doctor "${server[late_sender]}" >"$work/late.log" && fail "doctor does not see the switch"
grep -q 'switched off for the whole machine' "$work/late.log" || fail "doctor does not name the switch"
"$tool" on
eventually streams '.route_send == "local" and .route_receive == "local"' 2
eventually streams '.route_send == "local" and .route_receive == "local"' 2 late_receiver late_sender
kill -KILL "${server[late_sender]}"
finish late_sender
finish late_receiver
((finished == 0 || finished == 3)) || fail "the receiver that was started late ended with $finished"
kill -KILL "${server[sender]}"
finish sender
finish receiver
((finished == 0 || finished == 3)) || fail "the receiver ended with $finished"
expect_fifo stream-check

# Told to keep off, and then it changes what one thread may see, for which it must have one thread: it hears `on` still.
if [[ -n $python ]]; then
  cat >"$work/apart.py" <<'END'
import ctypes, signal, socket, time
libc = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGUSR1, lambda *_: print(libc.unshare(0x200), flush=True))
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
while True:
    client.sendall(b"ping"); assert server.recv(4, socket.MSG_WAITALL) == b"ping"
    server.sendall(b"pong"); assert client.recv(4, socket.MSG_WAITALL) == b"pong"
    time.sleep(0.001)
END
  start apart "$python" "$work/apart.py"
  eventually streams '.route_send == "local" and .route_receive == "local"' 2 apart apart
  "$tool" off
  eventually streams '.route_send == "tcp" and .route_receive == "tcp"' 2 apart apart
  kill -USR1 "${server[apart]}"
  eventually grep -qx 0 "$work/$mode.apart.log"
  "$tool" on
  eventually streams '.route_send == "local" and .route_receive == "local"' 2 apart apart
  kill -KILL "${server[apart]}"
  finish apart
fi

# With nobody there to be told, root's word is for who comes later; it is said.
if [[ $(id -u) == 0 ]]; then
  "$tool" off | tee "$work/off.log"
  grep -q 'stay on TCP, too, until' "$work/off.log" || fail "off does not say that it is for later programs, too"
  "$tool" on
fi

"$tool" --version
"$tool" --help | grep -q run || fail "--help does not mention run"
status=0
"$tool" run -- sh -c 'exit 9' || status=$?
((status == 9)) || fail "run does not pass on the exit status: $status"
status=0
"$tool" run -- /nonexistent/program 2>"$work/nonexistent.log" || status=$?
((status == 127)) && [[ -s $work/nonexistent.log ]] || fail "run of a missing program: exit $status"

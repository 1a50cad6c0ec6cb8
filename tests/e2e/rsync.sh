#!/usr/bin/env bash
# rsync and its daemon. Whoever receives forks: one half only reads the connection, the other only writes. Both
# directions, with deltas, and a client that is killed in the middle: equal files, and most bytes by FIFOs.
. "$(dirname "$0")/lib.sh"
need rsync
mkdir "$work/origin" "$work/module"
for i in {1..20}; do numbers $((i * 1500)) >"$work/origin/small$i"; done
numbers 6000000 >"$work/origin/large"       # 6 MB
if [[ $EUID == 0 ]]; then me=$'uid = root\ngid = root'; else me=; fi

scenario() {
  pick_port port
  rm -rf "$work/module" "$work/copy"; mkdir "$work/module" "$work/copy"
  printf 'use chroot = no\n%s\n[files]\npath = %s\nread only = no\n' "$me" "$work/module" >"$work/rsyncd.conf"
  start daemon rsync --daemon --no-detach --address=127.0.0.1 --port="$port" --config="$work/rsyncd.conf"
  listening "$port"
  local url=rsync://127.0.0.1:$port/files/
  run rsync -r --whole-file "$work/origin/" "$url"
  (cd "$work/module" && sha256sum -- *)
  run rsync -r --whole-file "$url" "$work/copy/"
  (cd "$work/copy" && sha256sum -- *)
  # Deltas: answers in both directions at a time.
  { numbers 1000; cat "$work/origin/large"; echo end; } >"$work/copy/large"
  run rsync -r --no-whole-file --ignore-times "$work/copy/" "$url"
  (cd "$work/module" && sha256sum -- *)
  # Killed in the middle, and begun again: a sender, and one half of a receiver, whose other half notices.
  local halves
  for halves in "$work/origin/ $url" "$url $work/copy/"; do
    "${client_prefix[@]}" rsync -r --whole-file --ignore-times --bwlimit=4m --inplace $halves {out}>&- >/dev/null 2>&1 &
    sleep 0.3
    kill -9 $!
    wait $! 2>/dev/null || true
    run rsync -r --whole-file --ignore-times $halves
  done
  (cd "$work/module" && sha256sum -- *)
  (cd "$work/copy" && sha256sum -- *)
  stop daemon
}

both scenario
expect_fifo rsync
# A reader that stands still (a busy machine, a slow disk) leaves its FIFO for good while both halves have the
# connection: so not all bytes, but much more than what is sent before the halves part.
[[ ${E2E_NATIVE:-} == 1 ]] || (($(fifo_bytes rsync) > 10000000)) ||
  fail "only $(fifo_bytes rsync) bytes went through FIFOs"

# Once borrowed, a reader that stands still for a moment, as for a slow disk, stays on its FIFO.
[[ -n $python && ${E2E_NATIVE:-} != 1 ]] || exit 0
cat >"$work/halves.py" <<'END'
import os, socket, time
listener = socket.create_server(("127.0.0.1", 0))
writer = os.fork()
if writer == 0:
    end = socket.create_connection(listener.getsockname())
    for _ in range(200): end.sendall(b"a" * 100); end.recv(100, socket.MSG_WAITALL)
    time.sleep(0.05)
    end.sendall(b"b" * 5000000)
    end.recv(1); os._exit(0)
end, _ = listener.accept()
for _ in range(200): end.recv(100, socket.MSG_WAITALL); end.sendall(b"c" * 100)
reader = os.fork()
if reader == 0:
    assert end.recv(1, socket.MSG_WAITALL) == b"b"
    time.sleep(0.15)
    assert end.recv(4999999, socket.MSG_WAITALL) == b"b" * 4999999
    os._exit(0)
assert os.waitpid(reader, 0)[1] == 0
end.sendall(b"d")
assert os.waitpid(writer, 0)[1] == 0
end.close()
END
stays_on_fifo() {
  : >"$stats"
  run "$python" "$work/halves.py"
  (($(fifo_bytes python3) > 5000000))
}
eventually stays_on_fifo        # not at each attempt, on a machine that keeps a reader waiting for longer
echo "ok two halves: $(fifo_bytes python3) bytes by FIFO"

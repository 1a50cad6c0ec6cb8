#!/usr/bin/env bash
# Who holds a socket cannot be found any more when the first thread of that process has ended before the others.
#
# Guess:   a process has one table of descriptors, whichever of its threads is alive: ss -p, lsof and fuser name the
#          process that listens, and pidfd_getfd gives its socket, as before.
# Subject: iproute2 6.1.0-3, lsof 4.95.0-1, psmisc 23.6-1 (Debian 12); Linux 6.18.44. Root.
# Seen:    /proc/PID/fd is the first thread's and empty: ss -p prints the listening socket without a process, lsof and
#          fuser find nobody, pidfd_getfd says ESRCH. `lsof -K` finds it by the other thread; so does a pidfd of a
#          thread (PIDFD_THREAD).
# Matters: who looks through /proc/PID/fd for the holders of a socket, a FIFO or an epoll set must look at a living
#          thread, or takes a program that works for one that has nothing. (We did.)
# Source:  pthread_exit(3) allows it in main(); that the tools then see nothing: none known.
set -euo pipefail
[[ $(id -u) == 0 ]] || { echo "needs root"; exit 77; }

scratch=$(mktemp -d)
holder=
trap '[[ -z $holder ]] || kill -9 "$holder"; rm -rf "$scratch"' EXIT
(cd "$scratch" && apt-get download iproute2=6.1.0-3 lsof=4.95.0-1 psmisc=23.6-1 >log 2>&1) ||
  { echo "these versions are not offered any more"; exit 77; }
for package in "$scratch"/*.deb; do dpkg-deb -x "$package" "$scratch"; done

cat >"$scratch/holder" <<'PYTHON'
import ctypes, os, socket, sys, threading, time
listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=lambda: time.sleep(60)).start()
print(listener.getsockname()[1], listener.fileno(), flush=True)
os.read(0, 1)
ctypes.CDLL(None).syscall(60, 0)  # exit: of this thread only
PYTHON
mkfifo "$scratch/go"
python3 "$scratch/holder" <"$scratch/go" >"$scratch/said" &
holder=$!
disown "$holder"
exec 3>"$scratch/go"
until [[ -s $scratch/said ]]; do read -rt 0.05 <> <(:) || true; done
read -r port fd <"$scratch/said"

# Whom the tools name, one word a tool.
found() {
  [[ $("$scratch/bin/ss" -Hltnp "sport = :$port") == *"pid=$holder,"* ]] && printf 'ss '
  "$scratch/usr/bin/lsof" -nPt -a -p "$holder" -iTCP:"$port" >/dev/null 2>&1 && printf 'lsof '
  "$scratch/usr/bin/lsof" -K -nPt -a -p "$holder" -iTCP:"$port" 2>/dev/null | grep -q . && printf 'lsof-K '
  "$scratch/bin/fuser" -s -n tcp "$port" >/dev/null 2>&1 && printf 'fuser '
  python3 - "$holder" "$fd" <<'PYTHON'
import ctypes, os, sys
process, fd = map(int, sys.argv[1:])
libc = ctypes.CDLL(None)
if libc.syscall(438, os.pidfd_open(process), fd, 0) >= 0:
    print("pidfd_getfd", end=" ")
last = max(map(int, os.listdir("/proc/%d/task" % process)))
if libc.syscall(438, libc.syscall(434, last, 0o200), fd, 0) >= 0:
    print("pidfd_getfd-of-a-thread", end=" ")
PYTHON
}
before=$(found)
echo go >&3
until grep -q '^State:.Z' "/proc/$holder/status"; do read -rt 0.05 <> <(:) || true; done
after=$(found)
echo "found while the first thread lives:    $before"
echo "found when it has ended:               $after"
ls -l "/proc/$holder/fd" | sed 's/^/its \/proc\/PID\/fd: /'
[[ $before == 'ss lsof lsof-K fuser pidfd_getfd pidfd_getfd-of-a-thread ' ]] ||
  { echo "something else than the finding went wrong"; exit 1; }
[[ $after == 'lsof-K pidfd_getfd-of-a-thread ' ]] || { echo "CHANGED: others find it, too"; exit 1; }
echo "as found"

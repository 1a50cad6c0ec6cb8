#!/usr/bin/env bash
# Loaded into programs that use no socket, the library changes nothing: same output, same exit
# status, no thread, no descriptor, no environment of its own left behind, no line of statistics.
. "$(dirname "$0")/lib.sh"
[[ ${E2E_NATIVE:-} == 1 ]] || copy_library
cd "$work"
printf 'int main(void) { return 7; }\n' >seven.c
numbers 100000 >numbers.txt
: >"$stats"

# same COMMAND...: natively, with LD_PRELOAD, and under `xenloop run`.
same() {
  local -a how
  local kind part status
  command -v "$1" >/dev/null || { echo "-- $1 is not installed"; return 0; }
  for kind in native preload tool; do
    case $kind in
      native) how=() ;;
      preload) how=(env "LD_PRELOAD=$library" "XENLOOP_STATS=$stats") ;;
      tool) how=(env "XENLOOP_STATS=$stats" "$tool" run --) ;;
    esac
    [[ $kind == native || ${E2E_NATIVE:-} != 1 ]] || continue
    status=0
    timeout --foreground -k 2 30 "${how[@]}" "$@" </dev/null >"$kind.stdout" \
      2>"$kind.stderr" {out}>&- || status=$?
    echo "$status" >"$kind.status"
    for part in stdout stderr status; do
      diff -u native.$part $kind.$part || fail "$part differs ($kind): $*"
    done
  done
  echo "ok $(cat native.status) $*"
}

same true
same false
same ls -l /usr/bin/env
same bash -c 'shopt -s nullglob; echo /proc/self/fd/*'
same grep -E '^(Threads|SigBlk|SigIgn|SigCgt|Seccomp|NoNewPrivs):' /proc/self/status
same bash -c 'echo a | cat; (exit 3); echo $?; kill -TERM $$'
same bash -c 'ulimit -n 4; exec cat seven.c'
same bash -c 'exec <&- >&- 2>&-; true'
same perl -e 'print "perl $]\n"; system("echo child"); exit 5'
same perl -e 'for (1 .. 5) { my $p = fork; if (!$p) { exit $_ } waitpid $p, 0; print $? >> 8 }'
same perl -e '$SIG{ALRM} = sub { print "alarm\n"; exit 4 }; alarm 1; sleep 10 while 1'
same "$python" -c 'import os; print(os.listdir("/proc/self/fd"), os.listdir("/proc/self/task") == [
  str(os.getpid())])'
same "$python" -c 'import subprocess as s; print(s.run(["ls", "/"], capture_output=True))'
same "$python" -c 'import multiprocessing as m; print(m.Pool(2).map(abs, range(-50, 50)))'
same "$python" -c 'import socket; a, b = socket.socketpair(); a.send(b"hi"); print(b.recv(2), a, b)'
same "$python" -c 'import asyncio; print(asyncio.run(asyncio.sleep(0.01, "slept")))'
same gcc -O1 -o seven seven.c
same ./seven
same gcc --version
same git --version
same git init -q repository
same git -C repository status --short --branch
same ssh -V
same sudo -V
same su --version
same setpriv --dump
same tar -cf /dev/null numbers.txt
same sort -R --random-source=numbers.txt numbers.txt
same gzip -c9n numbers.txt
same xargs -P 4 -a seven.c echo
same timeout 0.2 sleep 10
same jq -n '[range(10)] | add'
same openssl version
same dd if=numbers.txt of=/dev/null bs=1000 count=5 status=none
same /lib64/ld-linux-x86-64.so.2 --version
nobody=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
[[ $(id -u) != 0 ]] || same "${nobody[@]}" su --version    # setuid: ld.so drops the library
same env -i PATH=/usr/bin:/bin true
[[ ! -s $stats ]] || fail "statistics of a process without a TCP connection: $(cat "$stats")"

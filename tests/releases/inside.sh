# In a root of some release, with the library in FOLDER: inside.sh FOLDER.
set -u
folder=$1 library=$1/libxenloop.so
fail() { echo "    $*" >&2; exit 1; }

# Of every kind: shells, interpreters, C and C++, threads or none, with and without libdl.
programs=(
  "/bin/true" "bash -c 'echo \$((6 * 7)); cat < <(echo x)'" "dash -c 'echo a | tr a b'" "perl -e 'print 6*7, qq(\\n)'"
  "python3 -c 'import threading; t = threading.Thread(target=print, args=(1,)); t.start(); t.join()'"
  "awk 'BEGIN { print 42 }'" "sed -n 1p /etc/passwd" "grep root /etc/passwd" "find /etc/apt" "ls /usr" "sort /etc/group"
  "tar -cf /dev/null /etc/passwd" "sh -c 'gzip -c /etc/passwd | sha256sum'" "sha256sum /etc/passwd" "dd if=/dev/zero of=/dev/null count=9 status=none"
  "id" "date -d @0" "getent hosts localhost" "dpkg -s bash" "apt-cache policy bash" "openssl dgst -sha256 /etc/passwd"
  "curl --version" "file /bin/ls" "redis-server --version" "ip link show lo" "ps --version" "env -i /bin/true" "mount --version")
apt-cache gencaches >/dev/null 2>&1   # or its first answer differs
for program in "${programs[@]}"; do
  natively=$(bash -c "$program" 2>&1)
  status=$?
  preloaded=$(LD_PRELOAD=$library bash -c "exec $program" 2>&1)
  [[ $? == "$status" && $preloaded == "$natively" ]] || fail "$program: $status and $natively; with the library: $preloaded"
done

# Accelerated where two programs talk, and right.
export LD_PRELOAD=$library
XENLOOP_STATS=$folder/server redis-server --port 7000 --save '' --appendonly no >"$folder/log" 2>&1 &
server=$!
for ((i = 0; i < 200; ++i)); do
  [[ $(redis-cli -p 7000 ping 2>/dev/null) == PONG ]] && break
done
redis-benchmark -p 7000 -t get,set -n 20000 -q -c 5 >"$folder/benchmark" 2>&1 || fail "redis-benchmark: $(cat "$folder/benchmark")"
redis-cli -p 7000 shutdown nosave
wait "$server" || fail "redis-server ended with $?: $(cat "$folder/log")"
grep -q '"upgraded":[1-9]' "$folder/server" || fail "redis was not accelerated: $(cat "$folder/server")"
# On a busy machine a short stream may be over before the agent has had its turn.
for rounds in 2000 8000 32000; do
  rm -f "$folder/stream"
  XENLOOP_STATS=$folder/stream python3 "$folder/echo.py" "$rounds" >"$folder/digest" || fail "a stream was wrong"
  ! grep -q '"upgraded":[1-9]' "$folder/stream" || break
done
grep -q '"upgraded":[1-9]' "$folder/stream" || fail "the stream was not accelerated: $(cat "$folder/stream")"

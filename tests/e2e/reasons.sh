#!/usr/bin/env bash
# Every TCP connection of a process that has the library has a reason, also where there is no agent: ways to
# get none are made, and `xenloop stat`, `xenloop doctor` and the statistics name it in the words of reasons.def.
# A reason for a whole program that is in neither list here is a failure.
. "$(dirname "$0")/own_namespaces.bash"
E2E_SECONDS=${E2E_SECONDS:-280}   # many programs
. "$(dirname "$0")/lib.sh"
[[ -n $python ]] || skip "python3 is not installed"
[[ ${E2E_NATIVE:-} != 1 ]] || { echo "nothing to run natively"; exit 0; }
copy_library
: >"$stats"; chmod 666 "$stats"

# Two ends in one process, as many round trips as the first argument says, then the second argument's snippet
# runs, and again as many; then it says that it is ready, and lives until its input ends.
cat >"$work/ends.py" <<'END'
import ctypes, os, resource, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
exec(os.environ.get("BEFORE", ""))
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
def trips(count):
    for _ in range(count):
        client.sendall(b"ping"); assert server.recv(4, socket.MSG_WAITALL) == b"ping"
        server.sendall(b"pong"); assert client.recv(4, socket.MSG_WAITALL) == b"pong"
trips(int(sys.argv[1]))
exec(os.environ.get("MEANWHILE", ""))
trips(int(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
END

tried=()
under=()   # who starts it
# way REASON TRIPS [NAME=VALUE...]: with these in the environment, both ends stay on TCP because of REASON.
# SEEN_BY_STAT=no: the filter that stands over the process is told by itself, but not written at the end.
way() {
  local reason=$1 trips=$2 words pid line
  shift 2
  words=$(sed -n "s/^REASON($reason, *\"\([^\"]*\)\".*/\1/p" "$source_dir/discovery/protocol/reasons.def")
  [[ -n $words ]] || words=$(grep -A1 "^REASON($reason,$" "$source_dir/discovery/protocol/reasons.def" | sed -n 's/^ *"\([^"]*\)".*/\1/p')
  [[ -n $words ]] || fail "no reason $reason"
  tried+=("$reason")
  : >"$stats"
  mkfifo "$work/in.$reason" "$work/out.$reason" 2>/dev/null || true
  "${under[@]}" env LD_PRELOAD="$library" XENLOOP_STATS="$stats" "$@" "$python" "$work/ends.py" "$trips" \
    <"$work/in.$reason" >"$work/out.$reason" 2>"$work/$reason.stderr" &
  pid=$!
  exec 8>"$work/in.$reason" 9<"$work/out.$reason"
  read -r -t 30 line <&9 || fail "$reason: the program did not come to its end"
  [[ $line == ready ]] || fail "$reason: the program says $line"
  eventually told "$pid" "$words" || fail "$reason: stat says $("$tool" stat --json | jq -c '.processes')"
  "$tool" doctor "$pid" >"$work/doctor.log" 2>&1 || true
  [[ $(grep -c "by TCP: $words" "$work/doctor.log") == 2 ]] || fail "$reason: the doctor says: $(cat "$work/doctor.log")"
  exec 8>&-
  wait "$pid" || fail "$reason: the program ends with $?"
  exec 9<&-
  [[ ${written:-yes} != yes ]] ||
    # Both ends are here: who hears of the other's way back first, counts that.
    jq -es --arg words "$words" '(map((.never_upgraded[$words] // 0) + (.fallbacks[$words] // 0)) | add) as $own |
      $own >= 1 and $own + (map(.fallbacks["peer fell back"] // 0) | add) >= 2' "$stats" >/dev/null ||
    fail "$reason: the statistics say $(cat "$stats")"
  echo "ok $reason: $words"
}
told() {
  [[ $("$tool" stat --json | jq --argjson pid "$1" --arg words "$2" \
    '[.processes[].streams[] | select(.pid == $pid and .reason == $words and .route_send == "tcp")] | length') == 2 ]]
}

# In a file that the administrator's rules are read from.
mkdir "$work/etc"
cp -a /etc/. "$work/etc/" 2>/dev/null || true     # without root, without what only root may read
mount --bind "$work/etc" /etc
# ruled REASON TEXT: with these rules.
ruled() {
  printf '%b' "$2" >/etc/xenloop.conf
  way "$1" 50
  : >/etc/xenloop.conf
}
# realm COMMAND...: an empty runtime directory; then the commands spoil it.
realm=$work/realm
own_realm=$realm/xenloop-$(id -u)
realm() { rm -rf "$realm"; mkdir -m 711 "$realm"; "$@"; }

way kNotHotYet 2 XENLOOP_UPGRADE_AFTER=16
way kDisabled 50 XENLOOP=off
ruled kProgramExcepted "except_programs = ${python##*/} $(basename "$(readlink -f "$python")")\n"
ruled kProgramNotNamed 'programs = nginx\n'
ruled kUserExcepted 'except_users = 0\n'
ruled kUserNotNamed 'users = nobody\n'
ruled kAddressExcluded 'except_addresses = 127.0.0.0/8\n'
ruled kPortExcluded 'ports = 1\n'
ruled kRuleNotUnderstood 'ports = http\n'
way kAgentNoDescriptors 50 BEFORE='resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))'
way kAgentNoMemory 50 BEFORE='resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))'
way kDirectoryNotMade 50 XENLOOP_RUNTIME_DIR=/proc/no/such/place
# Room for the directory and its files, and none for the name of a socket in it.
deep=$work/$(printf 'y%.0s' $(seq $((92 - ${#work}))))
mkdir "$deep"
way kAgentNoSocket 50 XENLOOP_RUNTIME_DIR="$deep"
realm ln -s "$work/nowhere" "$own_realm"
way kDirectoryNotOpened 50 XENLOOP_RUNTIME_DIR="$realm"
realm mkdir -m 777 "$own_realm"
chmod 777 "$own_realm"
way kDirectoryNotOurs 50 XENLOOP_RUNTIME_DIR="$realm"
realm mkdir -p -m 700 "$own_realm"
mkdir "$own_realm/hints"
way kHintsNotOpened 50 XENLOOP_RUNTIME_DIR="$realm"
realm mkdir -m 700 "$own_realm"
: >"$own_realm/hints"; chmod 666 "$own_realm/hints"
way kHintsNotOurs 50 XENLOOP_RUNTIME_DIR="$realm"
# Their agent has made all that is its own when it happens, however late a loaded machine lets them become hot: the thread
# is there before that, and would begin as the new user.
agent_runs='
def own():
    links = {}
    for fd in os.listdir("/proc/self/fd"):
        try: links[fd] = os.readlink("/proc/self/fd/" + fd) if int(fd) >= 1024 else ""
        except FileNotFoundError: pass  # the agent has closed it meanwhile
    return {kind: int(fd) for fd, link in links.items() for kind in ("memfd", "eventpoll") if kind in link}
while len(own()) < 2: trips(10)
'
way kUserChanged 50 MEANWHILE="$agent_runs"'os.setegid(65534); os.seteuid(65534)'
# One that the agent does not sleep on.
way kDescriptorWanted 50 MEANWHILE="$agent_runs"'os.dup2(0, own()["memfd"])'
# By a call that is libc's own; the agent notices when somebody asks it.
way kDescriptorsClosed 50 MEANWHILE="$agent_runs"'assert ctypes.CDLL("libc.so.6").close(own()["eventpoll"]) == 0'
way kOwnDescriptors 50 MEANWHILE="$agent_runs"'
import threading
held = threading.Event()
other = threading.Thread(target=lambda: (libc.unshare(0x400), held.set(), sys.stdin.read()), daemon=True)
other.start(); held.wait()'
way kIoUringPolled 50 BEFORE='import ctypes; assert ctypes.CDLL(None).syscall(425, 8, (ctypes.c_uint32 * 30)(0, 0, 2)) > 0'
way kIoUringUnknown 50 BEFORE='
ring = libc.syscall(425, 8, (ctypes.c_uint32 * 30)()); assert ring > 0
libc.syscall(427, ring, 0x7fffffff, None, 0)'
under=("$build/bin/confined" refuse 332 1)         # statx
way kFilterUntried 50
under=("$build/bin/confined" refuse 319 1)         # memfd_create
way kFilterForbids 50 BEFORE='os.waitpid(os.fork() or os._exit(0), 0)'
under=()
# What these tests see instead, and why it is not made here:
#   kAgentNoThreadLibrary   needs a libc before 2.34: tests/releases
#   kAgentNoThread          root has no limit of threads that would not end the rest: limits.sh, in a cgroup of its own
#   kDirectoryName          the configuration takes no name that is too long: registry_test
#   kWaitsUnseen            needs system calls made in line: unseen.sh
#   kSandbox, kPrivilegesGivenUp   there is nobody to be asked any more: sandbox.sh looks at what was written before
elsewhere=(kAgentNoThreadLibrary kAgentNoThread kDirectoryName kWaitsUnseen kSandbox kPrivilegesGivenUp)
while read -r reason; do
  [[ " ${tried[*]} ${elsewhere[*]} " == *" $reason "* ]] || fail "nobody makes $reason, which keeps a whole program on TCP"
done < <(tr -d '\n' <"$source_dir/discovery/protocol/reasons.def" | grep -oE 'REASON\(k[A-Za-z]+, *"[^"]*", *kProgram' | sed 's/REASON(\(k[A-Za-z]*\),.*/\1/')
echo "${#tried[@]} ways"

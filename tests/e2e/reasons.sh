#!/usr/bin/env bash
# Every TCP connection of a process that has the library has a reason, also where there is no agent: ways to
# get none are made, and `xenloop stat`, `xenloop doctor` and the statistics name it in the words of reasons.def.
# A reason for a whole program that is in neither list here is a failure.
. "$(dirname "$0")/own_namespaces.bash"
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
  env LD_PRELOAD="$library" XENLOOP_STATS="$stats" "$@" "$python" "$work/ends.py" "$trips" \
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
    [[ $(jq -s --arg words "$words" 'map(.never_upgraded[$words] // .fallbacks[$words] // 0) | add' "$stats") -ge 2 ]] ||
    fail "$reason: the statistics say $(cat "$stats")"
  echo "ok $reason: $words"
}
told() {
  [[ $("$tool" stat --json | jq --argjson pid "$1" --arg words "$2" \
    '[.processes[].streams[] | select(.pid == $pid and .reason == $words and .route_send == "tcp")] | length') == 2 ]]
}

way kNotHotYet 2 XENLOOP_UPGRADE_AFTER=16
way kDisabled 50 XENLOOP=off
way kAgentNoDescriptors 50 BEFORE='resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))'
way kAgentNoMemory 50 BEFORE='resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))'
way kDirectoryNotMade 50 XENLOOP_RUNTIME_DIR=/proc/no/such/place
way kIoUringPolled 50 BEFORE='import ctypes; assert ctypes.CDLL(None).syscall(425, 8, (ctypes.c_uint32 * 30)(0, 0, 2)) > 0'
# Made by other cases (rules.sh, limits.sh, runtime_directory.sh, sandbox.sh) or unit tests, where the words are looked for.
elsewhere=(kAgentNoThreadLibrary kProgramExcepted kProgramNotNamed kUserExcepted kUserNotNamed kAddressExcluded kPortExcluded kRuleNotUnderstood
  kAgentNoThread kAgentNoSocket kDirectoryNotOpened kDirectoryNotOurs kHintsNotOpened kHintsNotOurs kDescriptorsClosed
  kDescriptorWanted kDirectoryName kUserChanged kSandbox kOwnDescriptors kIoUringUnknown kPrivilegesGivenUp kThreadChanged kFilterUntried kFilterForbids)
while read -r reason; do
  [[ " ${tried[*]} ${elsewhere[*]} " == *" $reason "* ]] || fail "nobody makes $reason, which keeps a whole program on TCP"
done < <(tr -d '\n' <"$source_dir/discovery/protocol/reasons.def" | grep -oE 'REASON\(k[A-Za-z]+, *"[^"]*", *kProgram' | sed 's/REASON(\(k[A-Za-z]*\),.*/\1/')
echo "${#tried[@]} ways"

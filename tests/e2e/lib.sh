# Shared by every end-to-end case: a case describes a scenario of unmodified programs once, `both`
# runs it natively (the oracle) and then with the library, and demands equal results; `expect_fifo`
# demands that bytes really went through FIFOs, so that a silent fallback cannot look like a pass.
# What a scenario prints on stdout is its result. Everything is bounded in time and cleaned up.
#
#   XENLOOP_BUILD=DIR  build tree under test (default build/release)
#   XENLOOP_CI=1       a skip is a failure
#   E2E_NATIVE=1       run only the native half
#   E2E_KEEP=1         keep the scratch folder
#   E2E_STATS=FILE     append what XENLOOP_STATS has collected
#   E2E_PATIENCE=N     N times as long as the limits say (a busy machine, no ctest that has a limit of its own)
set -Eeuo pipefail

case_name=$(basename "$0" .sh)
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(cd "${XENLOOP_BUILD:-$source_dir/build/release}" 2>/dev/null && pwd) ||
  { echo "FAIL $case_name: no build tree at ${XENLOOP_BUILD:-$source_dir/build/release}"; exit 1; }
ci=${XENLOOP_CI:-} patience=${E2E_PATIENCE:-1}
for inherited in /proc/$$/fd/*; do      # ctest's, say: the cases count descriptors
  inherited=${inherited##*/}
  ((inherited < 3 || inherited > 200)) || exec {inherited}>&-
done
exec {out}>&1              # a scenario's stdout is captured; verdicts go here
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
unset LD_PRELOAD "${!XENLOOP_@}" 2>/dev/null || true

work=$(mktemp -d "${TMPDIR:-/tmp}/xenloop-e2e-$case_name.XXXXXX")
stats=$work/stats.json
rounds=0                  # of `both` whose statistics have been put aside
library=$work/xenloop/lib/libxenloop.so
tool=$work/xenloop/bin/xenloop
python=$(command -v /usr/bin/python3 || command -v python3 || true)
mode=native
declare -A server=()      # name -> pid
server_prefix=()          # how the mode at hand starts a server, and a client
client_prefix=()
cleanups=()               # commands for cleanup, last first

fail() {
  trap - ERR
  exec >&"$out"
  echo "FAIL $case_name ($mode): $*"
  local log
  for log in "$work"/*.log "$work"/*.stderr; do
    [[ -s $log ]] && { echo "--- ${log##*/} (its end)"; tr '\r' '\n' <"$log" | tail -n 15; }
  done
  [[ -s $stats ]] && { echo "--- stats"; tail -n 20 "$stats"; }
  echo "FAIL $case_name ($mode): $*"
  echo "reproduce: XENLOOP_BUILD=$build E2E_KEEP=1 bash ${0#"$source_dir"/}"
  exit 1
}

skip() {
  [[ $ci == 1 ]] && fail "skipped, and in CI a skip is a failure: $*"
  exec >&"$out"
  echo "SKIP $case_name: $*"
  exit 77
}

cleanup() {
  local status=$? name i
  trap - ERR EXIT
  set +e
  for name in "${!server[@]}"; do kill -TERM "${server[$name]}" 2>/dev/null; done
  for name in "${!server[@]}"; do
    for ((i = 0; i < 40; i++)); do kill -0 "${server[$name]}" 2>/dev/null || break; sleep 0.05; done
    kill -KILL -- "-${server[$name]}" 2>/dev/null     # with the workers that it may have left
  done
  for ((i = ${#cleanups[@]} - 1; i >= 0; i--)); do eval "${cleanups[i]}" 2>/dev/null; done
  kill "$watchdog" 2>/dev/null
  [[ -z ${E2E_STATS:-} ]] || cat "$work"/stats*.json >>"$E2E_STATS" 2>/dev/null
  if [[ ${E2E_KEEP:-} == 1 ]]; then echo "kept: $work"; else rm -rf "$work" || rm -rf "$work"; fi
  exit $status
}

# After 110 s (E2E_SECONDS) the case is told to stop and the command it waits for is killed (ctest's own limit,
# 120 s, would leave servers behind). A builtin read is the clock: no child to leave behind.
watch() {
  trap - ERR EXIT
  local clock
  exec {clock}<> <(:)
  read -r -t "${E2E_SECONDS:-$((110 * patience))}" -u "$clock" || true
  kill -TERM "$1"
  sleep 0.2
  pkill -KILL -P "$1"
}

need() {
  local program
  for program; do command -v "$program" >/dev/null || skip "$program is not installed"; done
}
need_root() { [[ $(id -u) == 0 ]] || skip "needs root"; }

# pick_port VARIABLE: a TCP port nobody listens on, outside the ephemeral range.
pick_port() {
  local candidate
  while :; do
    candidate=$((10000 + (RANDOM << 2 ^ RANDOM) % 20000))
    [[ -z $(ss -Htan "sport = :$candidate") ]] && break
  done
  printf -v "$1" %d "$candidate"
}

# start NAME COMMAND...: a server in the background, in a process group of its own (setsid keeps the
# pid); its output goes to MODE.NAME.log.
start() {
  local name=$1
  shift
  [[ -z ${server[$name]:-} ]] || fail "$name was started twice"
  setsid "${server_prefix[@]}" "$@" </dev/null >"$work/$mode.$name.log" 2>&1 {out}>&- &
  server[$name]=$!
}

# run COMMAND...: a client, with a time limit; started as the mode at hand says.
run() { timeout --foreground -k 2 $((40 * patience)) "${client_prefix[@]}" "$@" {out}>&-; }

# eventually COMMAND...: polls until the command succeeds, at most 15 s.
eventually() {
  local i
  for ((i = 0; i < 300 * patience; i++)); do "$@" >/dev/null 2>&1 && return 0; sleep 0.05; done
  fail "did not happen within $((15 * patience)) s: $*"
}

# listening PORT [WRAPPER...]: waits until somebody listens (in the namespace that WRAPPER enters).
listening() {
  local port=$1
  shift
  eventually bash -c '[[ -n $("$@") ]]' _ "$@" ss -Hltn "sport = :$port"
}

# ended PID: gone, or waiting to be waited for.
ended() { [[ $(ps -o stat= -p "$1") != [!Z]* ]]; }

# finish NAME: waits for a server that ends by itself; its exit status is in $finished.
finish() {
  eventually ended "${server[$1]}"
  finished=0
  wait "${server[$1]}" 2>/dev/null || finished=$?
  unset "server[$1]"
}

# stop NAME [SIGNAL]: ends a server in its own way and prints how it ended.
stop() {
  kill "-${2:-TERM}" "${server[$1]}" 2>/dev/null || fail "$1 had gone before it was stopped"
  finish "$1"
  echo "$1 ended with $finished"
}

# absent PATTERN FILE: no line of the file matches, in whichever case.
absent() { ! grep -iE "$@" >&"$out" || fail "matched '$1' in ${2##*/}"; }

# numbers COUNT: that many bytes, always the same, which never repeat in step with a buffer size.
numbers() { seq 1 $(($1 / 5 + 30000)) | head -c "$1" || true; }

# For peers that speak our protocol without the library: the version of a FIFO's head (channel/fifo.h).
E2E_FIFO_VERSION=$(sed -n 's/.*kFifoVersion = \([0-9]*\).*/\1/p' "$source_dir/channel/fifo.h")
export E2E_FIFO_VERSION

# with_library / natively: how programs are started from here on. Servers get LD_PRELOAD, clients
# `xenloop run`: both doors are tested.
natively() { mode=native server_prefix=() client_prefix=(); }
with_library() {
  mode=xenloop
  server_prefix=(env "LD_PRELOAD=$library" "XENLOOP_STATS=$stats" "$@")
  client_prefix=(env "XENLOOP_STATS=$stats" "$@" "$tool" run --)
}

copy_library() {
  [[ -e $build/lib/libxenloop.so && -x $build/bin/xenloop ]] ||
    fail "library missing: $build has no lib/libxenloop.so or no bin/xenloop (build it first)"
  mkdir -p "$work/xenloop/lib" "$work/xenloop/bin"
  cp -L "$build/lib/libxenloop.so" "$work/xenloop/lib/"
  cp -L "$build/bin/xenloop" "$work/xenloop/bin/"
  chmod -R a+rX "$work/xenloop"
}

# both SCENARIO [NAME=VALUE...]: natively, then with the library (and these settings of it).
both() {
  natively
  "$1" >"$work/native.result"
  if [[ ${E2E_NATIVE:-} == 1 ]]; then
    echo "native result of $1:"; sed 's/^/  /' "$work/native.result"; return
  fi
  cp "$work/native.result" "$work/native.result.$1"
  like_native "$@"
}

# again SCENARIO [NAME=VALUE...]: with the library and other settings of it, when `both` has been told of the same
# scenario before: what it does natively is known.
again() {
  [[ ${E2E_NATIVE:-} != 1 ]] || return 0
  cp "$work/native.result.$1" "$work/native.result"
  like_native "$@"
}

like_native() {
  local scenario=$1
  shift
  copy_library
  [[ ! -s $stats ]] || mv "$stats" "$work/stats-$((++rounds)).json"
  : >"$stats"; chmod 666 "$stats"
  with_library "$@"
  "$scenario" >"$work/xenloop.result"
  cmp -s "$work/native.result" "$work/xenloop.result" || {
    diff -u "$work/native.result" "$work/xenloop.result" >&"$out" || true
    fail "results of $scenario differ (native -, with the library +)"
  }
  if grep -snE 'ld\.so:|libxenloop|^xenloop|signal (6|11)\b|Segmentation|core dumped' \
    "$work"/xenloop.*.log >&"$out"; then
    fail "a program crashed, or the library printed something"
  fi
  echo "ok $scenario: $(wc -l <"$work/native.result") lines of results equal"
}

# fifo_bytes [PROGRAM]: bytes sent and received through FIFOs, over all its processes.
fifo_bytes() {
  jq -rs --arg p "${1:-}" \
    '[.[] | select(.program | startswith($p)) | .fifo_sent + .fifo_received] | add // 0' "$stats"
}

# expect_fifo PROGRAM...: each of them moved bytes through FIFOs; tells how many.
expect_fifo() {
  [[ ${E2E_NATIVE:-} == 1 ]] && return 0
  jq -es . "$stats" >/dev/null || fail "the stats file is not a series of JSON objects"
  local program bytes
  for program; do
    jq -rs --arg p "$program" '[.[] | select(.program | startswith($p))] |
      def sum(f): map(f) | add // 0;
      "\($p): \(length) processes, upgraded \(sum(.upgraded)) of \(sum(.connections))," +
      " FIFO bytes \(sum(.fifo_sent + .fifo_received)), TCP \(sum(.tcp_sent + .tcp_received))," +
      " fallbacks \(map(.fallbacks // {} | to_entries) | add // [] | group_by(.key)
                    | map({key: .[0].key, value: map(.value) | add}) | from_entries)"' "$stats"
    bytes=$(fifo_bytes "$program")
    ((bytes > 0)) || fail "no byte of $program went through a FIFO"
  done
}

# expect_no_fifo WHY [PROGRAM]: the route must have been TCP throughout (for this program).
expect_no_fifo() {
  [[ ${E2E_NATIVE:-} == 1 || $(fifo_bytes "${2:-}") == 0 ]] || fail "FIFO bytes of ${2:-any} where none may be: $1"
}

trap cleanup EXIT
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR
trap 'fail "stopped by a signal or its time limit"' TERM INT
watch $$ {out}>&- >/dev/null 2>&1 </dev/null &
watchdog=$!
chmod 755 "$work"
need ss jq pkill timeout

# README's way from the source to an accelerated redis, by the commands that stand in README: readme.sh. In a root of some
# release, whose apt asks nothing: tests/releases/run --readme.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# block HEADING: the first indented block below that heading.
block() {
  awk -v heading="$1" '$0 == heading { on = 1; next } on && /^    / { print substr($0, 5); said = 1; next } said { exit }' README.md
}
install=$(block '## Use' | sed '/\\$/!q')
mapfile -t commands < <(block '### Debian packages')
[[ $install == 'sudo apt install '* && ${#commands[@]} == 3 && ${commands[2]} == 'xenloop run -- redis-server --port 7000' ]] ||
  { printf 'README says something else now: %s\n' "$install" "${commands[@]}" >&2; exit 1; }

if command -v ccache >/dev/null; then
  export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
  export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 CCACHE_COMPILERCHECK=content
fi
for command in "$install" "${commands[@]:0:2}"; do
  printf '+ %s\n' "$command"
  bash -ec "$command" </dev/null
done

# A network of its own: port 7000 may be somebody else's.
unshare -n bash -ec 'ip link set lo up
  echo "+ $1"
  $1 --save "" >/dev/null &
  server=$!
  for ((i = 0; i < 300; ++i)); do
    [[ $(redis-cli -p 7000 ping 2>/dev/null) != PONG ]] || break
    sleep 0.1
  done
  xenloop run --stats --json -- redis-benchmark -p 7000 -t get -c 20 -q 2>/tmp/told >/dev/null
  kill "$server"
  wait "$server" || true
  tail -n 1 /tmp/told
  tail -n 1 /tmp/told | python3 -c "
import json, sys
told = json.load(sys.stdin)
sys.exit(told[\"upgraded\"] < 20 or told[\"fifo_received\"] < 9 * told[\"tcp_received\"])" ||
    { echo "redis is not accelerated" >&2; exit 1; }' _ "${commands[2]}"
sudo apt purge -y libxenloop1 xenloop-tools </dev/null
! find /usr /etc -xdev -name '*xenloop*' | grep . >&2
echo "README's commands: redis is accelerated"

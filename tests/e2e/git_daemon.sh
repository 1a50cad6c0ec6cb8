#!/usr/bin/env bash
# git clone from git daemon: the server hands each accepted connection to a spawned git-upload-pack
# as stdin and stdout, which is where a socket library loses bytes. The clone is complete and equal.
. "$(dirname "$0")/lib.sh"
need git
[[ -x $(git --exec-path)/git-daemon ]] || skip "git daemon is not installed"
export HOME=$work GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_DATE='2000-01-01T00:00:00Z' GIT_COMMITTER_DATE='2000-01-01T00:00:00Z'
git config --global user.name tester
git config --global user.email tester@example.org
git config --global init.defaultBranch main
git config --global safe.directory '*'
git init -q "$work/origin"
for i in {1..30}; do
  numbers $((i * 20000)) >"$work/origin/f$i"
  git -C "$work/origin" add .
  git -C "$work/origin" commit -qm "commit $i"
done

scenario() {
  pick_port port
  rm -rf "$work/clone"
  start daemon "$(git --exec-path)/git-daemon" --export-all --enable=receive-pack --reuseaddr \
    --listen=127.0.0.1 --port="$port" --base-path="$work"
  listening "$port"
  run git clone -q "git://127.0.0.1:$port/origin" "$work/clone"
  git -C "$work/clone" fsck --full 2>&1
  git -C "$work/clone" rev-parse HEAD
  (cd "$work/clone" && cat f* | sha256sum)
  run git -C "$work/clone" ls-remote "git://127.0.0.1:$port/origin"
  git -C "$work/clone" checkout -q -b "$mode"
  numbers 3000000 >"$work/clone/new"
  git -C "$work/clone" add new
  git -C "$work/clone" commit -qm new
  run git -C "$work/clone" push -q "git://127.0.0.1:$port/origin" "$mode:pushed-$mode"
  git -C "$work/origin" rev-parse "pushed-$mode"
  git -C "$work/origin" branch -qD "pushed-$mode"
  stop daemon
}

both scenario
[[ ${E2E_NATIVE:-} == 1 ]] || echo "FIFO bytes: $(fifo_bytes)"
again scenario XENLOOP_UPGRADE_AFTER=0
[[ ${E2E_NATIVE:-} == 1 ]] || echo "FIFO bytes: $(fifo_bytes)"

#!/usr/bin/env bash
# The hooks for libvirt and xapi (tools/system), with stubs for the programs that they call: what is asked of whom, and
# which answers stop a move. That the toolstacks call them so is in their documentation, and not tested here.
. "$(dirname "$0")/lib.sh"
[[ ${E2E_NATIVE:-} != 1 ]] || { echo "nothing to run natively"; exit 0; }
libvirt=$source_dir/tools/system/libvirt-hook-libxl
xapi=$source_dir/tools/system/xapi-hook
mkdir "$work/bin"
cat >"$work/bin/xenloop" <<'END'
#!/bin/sh
echo "xenloop $*" >>"$ASKED"
exit "${READY:-0}"
END
# As ssh does: the words behind the host go to a shell there. Host "down" is; only GUEST_ON has the guest.
cat >"$work/bin/ssh" <<'END'
#!/bin/sh
while [ "$1" != -- ]; do shift; done
host=$2
shift 2
echo "ssh $host" >>"$ASKED"
[ "$host" != down ] || exit 255
[ "$host" = "$GUEST_ON" ] || READY=3
export READY
exec sh -c "$*"
END
cat >"$work/bin/xe" <<'END'
#!/bin/sh
echo "xe $*" >>"$ASKED"
echo "${DOMID:-7}"
END
chmod +x "$work"/bin/*
export PATH=$work/bin:$PATH ASKED=$work/asked XENLOOP_HOSTS=$work/hosts GUEST_ON=two READY=0

# expect STATUS ASKED COMMAND...: so it ends, and so it asked (words joined by |); nothing on stdout.
expect() {
  local status=$1 asked=$2 got=0
  shift 2
  : >"$ASKED"
  "$@" </dev/null >"$work/stdout" 2>"$work/hook.stderr" || got=$?
  [[ $got == "$status" ]] || fail "$* ended with $got, not $status"
  [[ $(paste -sd'|' "$ASKED") == "$asked" ]] || fail "$* asked: $(paste -sd'|' "$ASKED")"
  [[ ! -s $work/stdout ]] || fail "$* wrote to stdout, where libvirt looks for a configuration"
}

printf '# where guests may be\none\n\ndown\ntwo\nthree\n' >"$work/hosts"
found="ssh one|xenloop quiesce -- web|ssh down|ssh two|xenloop quiesce -- web"
expect 0 "$found" "$libvirt" web migrate begin -
for operation in "prepare begin" "start begin" "started begin" "stopped end" "release end" "reconnect begin"; do
  # shellcheck disable=SC2086
  expect 0 "" "$libvirt" web $operation -
done
READY=1 expect 1 "$found" "$libvirt" web migrate begin -
grep -q 'web is not ready on two' "$work/hook.stderr" || fail "the refusal does not say who"
# A name must not become a command on the other host.
GUEST_ON=one expect 0 "ssh one|xenloop quiesce -- it's; touch $work/hit" "$libvirt" "it's; touch $work/hit" migrate begin -
[[ ! -e $work/hit ]] || fail "a guest's name was run as a command"
# Nowhere to be found, or perhaps on the host that is down: it must not move unprepared.
all="ssh one|xenloop quiesce -- web|ssh down|ssh two|xenloop quiesce -- web|ssh three|xenloop quiesce -- web"
GUEST_ON=elsewhere expect 1 "$all" "$libvirt" web migrate begin -
grep -q 'no answer from down' "$work/hook.stderr" || fail "the refusal does not name the host that is down"
XENLOOP_HOSTS=$work/missing expect 0 "" "$libvirt" web migrate begin -
grep -q 'without preparation' "$work/hook.stderr" || fail "an unprepared move is not mentioned"

export READY=0
expect 0 "xenloop quiesce 12" "$xapi" -vmuuid u-1 -reason source -vmdomid 12
expect 0 "xe vm-param-get uuid=u-1 param-name=dom-id|xenloop quiesce 7" "$xapi" -vmuuid u-1 -reason source
DOMID=-1 expect 0 "xe vm-param-get uuid=u-1 param-name=dom-id" "$xapi" -vmuuid u-1 -reason suspend
READY=1 expect 2 "xenloop quiesce 12" "$xapi" -vmdomid 12 -reason source -vmuuid u-1   # 1 would not stop xenopsd
READY=3 expect 0 "xenloop quiesce 12" "$xapi" -vmdomid 12 -reason source -vmuuid u-1
echo "ok: both hooks ask whom they should, and stop a move that is not prepared"

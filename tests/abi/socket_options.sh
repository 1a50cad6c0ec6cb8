#!/bin/sh
# socket_options.sh DEF: every socket option of Linux's headers that a TCP socket takes has its line in socket_options.def.
# What this machine's headers do not know yet may stand there; what they know and the list does not fails.
set -u
export LC_ALL=C
def=$1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
sed -n 's/^\(OPTION\|KERNEL\)([A-Z_]*, \([A-Z0-9_]*\),.*/\2/p' "$def" | sort >"$work/listed"
uniq -d "$work/listed" >"$work/twice"
# What is no option: values, sizes, a message type.
cat >"$work/values" <<'END'
SO_DEVMEM_DMABUF
SO_DEVMEM_LINEAR
TCP_AO_MAXKEYLEN
TCP_CM_INQ
TCP_MD5SIG_MAXKEYLEN
TCP_MSS_DEFAULT
TCP_MSS_DESIRED
TCP_RECEIVE_ZEROCOPY_FLAG_TLB_CLEAN_HINT
TCP_REPAIR_OFF
TCP_REPAIR_OFF_NO_WP
TCP_REPAIR_ON
END
printf '#include <asm/socket.h>\n#include <linux/tcp.h>\n' | ${CC:-cc} -dM -E - |
  sed -n 's/^#define \(SO_[A-Z0-9_]*\|TCP_[A-Z0-9_]*\) .*/\1/p' | grep -v -e '^TCP_MD5SIG_FLAG' -e '^TCP_AO_.*F_' -e '^TCP_ACCECN_' |
  sort -u | comm -23 - "$work/values" >"$work/known"
[ "$(wc -l <"$work/known")" -gt 80 ] || { echo "socket_options: the headers say nothing" >&2; exit 1; }
comm -23 "$work/known" "$work/listed" >"$work/missing"
for list in twice missing; do
  [ -s "$work/$list" ] || continue
  echo "socket_options: $list in $def:" >&2
  sed 's/^/    /' "$work/$list" >&2
  exit 1
done
echo "$(wc -l <"$work/known") options of the headers, all in the list"

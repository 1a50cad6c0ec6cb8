#!/usr/bin/env bash
# The library beside other preload libraries, before and after each: those that bring their own
# socket(), close() or read() through syscall(), make every TCP socket an MPTCP one, stand in for clocks,
# users, files and memory. Results are those of a run with the other library alone.
. "$(dirname "$0")/lib.sh"
[[ -n $python ]] || skip "python3 is not installed"

# Debian's package, the library's file, and settings that go with it. faketime twice: a clock that
# runs elsewhere, and one that stands still.
others="
eatmydata        libeatmydata.so
libfakeroot      libfakeroot-sysv.so
libfaketime      libfaketimeMT.so.1     FAKETIME=-300d
libfaketime      libfaketimeMT.so.1     FAKETIME=2020-02-02_02:02:02 FAKETIME_FMT=%Y-%m-%d_%H:%M:%S
libnss-wrapper   libnss_wrapper.so
libuid-wrapper   libuid_wrapper.so
libsocket-wrapper libsocket_wrapper.so
libfakechroot    libfakechroot.so
datefudge        datefudge.so           DATEFUDGE=1000
libmimalloc      libmimalloc.so.[23]
libmptcpwrap0    libmptcpwrap.so.0
"

scenario() {
  server_prefix=() client_prefix=(env "LD_PRELOAD=$other" "${settings[@]}")
  [[ $mode == native ]] || client_prefix=(env "LD_PRELOAD=$preload" "XENLOOP_STATS=$stats" "${settings[@]}")
  run "$python" "$source_dir/tests/e2e/echo.py" 400 --epoll 2>&1
  run "$python" -c 'import os, subprocess; print(subprocess.run(["id", "-u"], capture_output=True).stdout, os.path.exists("/etc/passwd"))' 2>&1
}

tried=0
while read -r package file values; do
  [[ -n $package ]] || continue
  # fakeroot and fakechroot stand in folders of their own.
  other=$(dpkg -L "$package" "${package}-1" libeatmydata1 2>/dev/null | grep "/$file\$" | head -n 1) || true
  [[ -n $other ]] || other=$(find /usr/lib -name "$file" 2>/dev/null | head -n 1)
  [[ -n $other ]] || skip "$package is not installed"
  read -ra settings <<<"$values"
  way=both
  for preload in "$library:$other" "$other:$library"; do
    $way scenario
    way=again
    case $file,$preload in
      libmptcpwrap*) expect_no_fifo "MPTCP" python3 ;;
      libsocket_wrapper.so,"$other":*) expect_no_fifo "it takes its calls from libc itself, past us" python3 ;;
      *) expect_fifo python3 ;;
    esac
  done
  tried=$((tried + 1))
done <<<"$others"
echo "$tried libraries, before and after"

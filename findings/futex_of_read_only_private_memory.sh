#!/usr/bin/env bash
# A futex without FUTEX_PRIVATE_FLAG in private memory that may only be read: EFAULT, for the waiter and for the waker.
#
# Guess:   waiting needs to read the word, so memory that can be read will do, be the futex private to the process or
#          not; and a wake, which does not look at the word at all, will do anywhere.
# Subject: futex, Linux 6.18.44; only the kernel.
# Seen:    with FUTEX_PRIVATE_FLAG so. Without it anonymous private memory must be writable: FUTEX_WAIT and
#          FUTEX_WAKE say EFAULT, as for no memory at all. A mapping of a file (memfd) may be read-only, shared or
#          private, and then even a reader's wake works.
# Matters: a word in shared memory can be waited on and woken by a peer who has it mapped for reading; but a copy
#          of that word which a process keeps for itself and protects against writing (mprotect) ends every wait
#          at once: a loop around the wait spins.
# Source:  kernel/futex/core.c, get_futex_key: a page without a file that could not be pinned for writing is refused.
set -euo pipefail

python3 - <<'PYTHON'
import ctypes, errno, mmap, os, platform, struct, sys

if platform.machine() != "x86_64":
    sys.exit(77)
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
FUTEX, WAIT, WAKE, PRIVATE, ANONYMOUS = 202, 0, 1, 128, 0x20
timeout = struct.pack("qq", 0, 20_000_000)

def ask(address, operation):
    libc.syscall.argtypes = [ctypes.c_long, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p]
    result = libc.syscall(FUTEX, address, operation, operation & 1, timeout)
    return "0" if result == 0 else errno.errorcode[ctypes.get_errno()]

file = os.memfd_create("word")
os.ftruncate(file, 4096)
seen = {}
for name, flags, fd in (("anonymous, private", mmap.MAP_PRIVATE | ANONYMOUS, -1),
                        ("anonymous, shared", mmap.MAP_SHARED | ANONYMOUS, -1),
                        ("memfd, private", mmap.MAP_PRIVATE, file), ("memfd, shared", mmap.MAP_SHARED, file)):
    for access in (mmap.PROT_READ | mmap.PROT_WRITE, mmap.PROT_READ):
        address = libc.mmap(None, 4096, access, flags, fd, 0)
        row = [ask(address, operation) for operation in (WAIT, WAKE, WAIT | PRIVATE, WAKE | PRIVATE)]
        seen[name, "read" if access == mmap.PROT_READ else "write"] = row
        print("%-19s %-6s wait %-10s wake %-7s with FUTEX_PRIVATE_FLAG: wait %-10s wake %s" % (
            name, "r" if access == mmap.PROT_READ else "rw", *row))
for key, row in seen.items():
    refused = key == ("anonymous, private", "read")
    if row != (["EFAULT", "EFAULT"] if refused else ["ETIMEDOUT", "0"]) + ["ETIMEDOUT", "0"]:
        sys.exit("CHANGED: %s of %s" % (row, key))
PYTHON
echo "as found"

#!/usr/bin/env bash
# A read-only mapping keeps a memfd from being sealed against writing, by the descriptor it was made from.
#
# Guess:   F_SEAL_WRITE minds mappings that can write. A shared mapping made with PROT_READ alone cannot.
# Subject: Linux 6.18.44; only the kernel.
# Seen:    PROT_READ, from the descriptor that memfd_create gave (open for writing), then F_SEAL_WRITE:
#          EBUSY. The other way round, first the seal and then the same mapping from the same descriptor:
#          works. And a mapping from a descriptor of the same memfd that is open for reading only
#          (/proc/self/fd/N) is no obstacle.
# Matters: a consumer that maps the producer's ring for reading, as it should, takes from the producer the
#          right to seal it later; whoever passes memory on should pass a descriptor that is open for
#          reading only, or seal first.
# Source:  none known; fcntl(2) says "writable, shared mapping".
set -euo pipefail

python3 - <<'PYTHON'
import errno, fcntl, mmap, os, sys

def made():
    fd = os.memfd_create("ring", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 4096)
    return fd

def mapped(fd):
    return mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ)

def attempt(call, *arguments):
    try:
        return "ok", call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno], None

def seal(fd):
    return attempt(fcntl.fcntl, fd, 1033, 0x0008)[0]  # F_ADD_SEALS, F_SEAL_WRITE

fd = made()
mapping = mapped(fd)
after_mapping = seal(fd)
mapping.close()

fd = made()
reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
mapping = mapped(reader)
after_reader = seal(fd)

fd = made()
first = seal(fd)
then, _ = attempt(mapped, fd)

print("mapped for reading, then sealed:                  ", after_mapping)
print("the same by a descriptor for reading, then sealed:", after_reader)
print("sealed:", first, "  then mapped for reading:", then)
if (after_reader, first) != ("ok", "ok"):
    sys.exit("something else than the finding went wrong")
if (after_mapping, then) != ("EBUSY", "ok"):
    sys.exit("CHANGED: the order does not matter any more, or matters otherwise")
PYTHON
echo "as found"

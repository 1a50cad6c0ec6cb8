// See handover.h.
#include "discovery/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>

#include "channel/base/sys.h"
#include "discovery/runtime_directory.h"

namespace xenloop {
namespace {

constexpr uint64_t kBuckets = 512;
constexpr uint64_t kPatienceNs = 10000000000;  // from exec to the new program's first instruction
constexpr size_t kEntries = kMostHandovers;

struct Bucket {
  Handover entries[kEntries];
};

off_t OffsetOf(pid_t pid) {
  return static_cast<off_t>(static_cast<uint64_t>(pid) % kBuckets * sizeof(Bucket));
}

// Not over `shared`, which changes while the note stands.
uint64_t CheckOf(Handover note) {
  note.shared = 0;
  uint64_t hash = 0xcbf29ce484222325ull;
  const auto* bytes = reinterpret_cast<const uint8_t*>(&note);
  for (size_t i = sizeof note.check; i < sizeof note; ++i)
    hash = (hash ^ bytes[i]) * 0x100000001b3ull;
  return hash;
}

// What stands for "not shared" in this very note. Whoever says so writes these four bytes alone,
// and may come late: in a note that has taken the place of his meanwhile they mean nothing.
uint32_t AloneIn(const Handover& note) { return static_cast<uint32_t>(CheckOf(note) >> 32) | 2; }

bool IsFor(const Handover& note, pid_t pid) {
  return note.pid == pid && note.check == CheckOf(note);
}

int Open(const char* base, uid_t uid, int flags) {
  Reason reason = Reason::kNone;
  return OpenRuntimeFile(base, uid, "handovers", flags, 0600, &reason);
}

// A short or torn bucket has no valid notes where it is so.
bool ReadBucket(int fd, pid_t pid, Bucket* bucket) {
  if (sys::Call(SYS_pread64, fd, sys::Word(bucket), sizeof *bucket, OffsetOf(pid)) < 0)
    return false;
  for (Handover& note : bucket->entries) note.shared = note.shared == AloneIn(note) ? 0 : 1;
  return true;
}

// What every program pays at its start: one system call where nothing was ever left, else three. No
// other thread is there yet that could miss a descriptor's number. Whose file it is does not matter
// here: only a true answer is looked into.
bool MayHaveNotes(const char* base, uid_t uid, pid_t pid) {
  char path[160];
  if (!RuntimePath(base, uid, "handovers", path)) return false;
  const long fd = sys::Call(SYS_openat, AT_FDCWD, sys::Word(path),
                            O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return false;
  Bucket bucket;
  const bool read = ReadBucket(static_cast<int>(fd), pid, &bucket);
  sys::Close(static_cast<int>(fd));
  bool any = false;
  for (size_t i = 0; i < kEntries && read; ++i) any = any || IsFor(bucket.entries[i], pid);
  return any;
}

off_t EntryAt(pid_t pid, size_t index) {
  return OffsetOf(pid) + static_cast<off_t>(index * sizeof(Handover));
}

int WriteEntry(int fd, pid_t pid, size_t index, Handover note) {
  note.check = CheckOf(note);
  if (note.shared == 0) note.shared = AloneIn(note);
  const long put = sys::Call(SYS_pwrite64, fd, sys::Word(&note), sizeof note, EntryAt(pid, index));
  return put == sizeof note ? 0 : put < 0 ? static_cast<int>(put) : -ENOSPC;
}

}  // namespace

uint64_t HandoverMoment() { return sys::MonotonicNs(); }

int LeaveHandovers(const char* base, uid_t uid, pid_t pid, Handover* notes, size_t count) {
  if (!sys::MayWriteFileOf(kBuckets * sizeof(Bucket))) return -EFBIG;
  Reason reason = Reason::kNone;
  if (const int error = MakeRuntimeDirectory(base, uid, &reason)) return error;
  const int fd = Open(base, uid, O_RDWR | O_CREAT);
  if (fd < 0) return fd;
  Bucket bucket;
  const uint64_t now = sys::MonotonicNs();
  int error = ReadBucket(fd, pid, &bucket) ? 0 : -EIO;
  size_t left = 0;
  for (size_t i = 0; i < kEntries && error == 0; ++i) {
    const Handover& there = bucket.entries[i];
    const bool in_use = there.pid != 0 && there.check == CheckOf(there);
    if (in_use && there.pid != pid && now - there.left_ns < kPatienceNs) continue;
    if (left < count) {
      Handover note = notes[left++];
      note.pid = pid;
      error = WriteEntry(fd, pid, i, note);
    } else if (in_use && there.pid == pid) {
      error = WriteEntry(fd, pid, i, Handover{});
    }
  }
  sys::Close(fd);
  return error == 0 && left < count ? -ENOSPC : error;
}

size_t TakeHandovers(const char* base, uid_t uid, pid_t pid, Handover* notes, size_t capacity) {
  if (!MayHaveNotes(base, uid, pid)) return 0;
  const int fd = Open(base, uid, O_RDWR);
  if (fd < 0) return 0;
  Bucket bucket;
  size_t taken = 0;
  if (ReadBucket(fd, pid, &bucket)) {
    const uint64_t now = sys::MonotonicNs();
    for (size_t i = 0; i < kEntries; ++i) {
      const Handover& note = bucket.entries[i];
      if (!IsFor(note, pid)) continue;
      const bool wanted = now - note.left_ns < kPatienceNs && taken < capacity;
      if (wanted) notes[taken++] = note;
      if (!wanted || note.shared == 0) WriteEntry(fd, pid, i, Handover{});
    }
  }
  sys::Close(fd);
  return taken;
}

bool FindPassed(const char* base, uid_t uid, uint64_t cookie, const FileId& taker, Handover* note) {
  const pid_t key = PassedKey(cookie);
  const int fd = Open(base, uid, O_RDONLY);
  if (fd < 0) return false;
  Bucket bucket;
  bool found = false;
  if (ReadBucket(fd, key, &bucket)) {
    const uint64_t now = sys::MonotonicNs();
    for (const Handover& entry : bucket.entries) {
      if (!IsFor(entry, key) || entry.cookie != cookie || now - entry.left_ns >= kPatienceNs ||
          entry.taker.device != taker.device || entry.taker.inode != taker.inode)
        continue;
      *note = entry;
      found = true;
    }
  }
  sys::Close(fd);
  return found;
}

void VoidHandovers(const char* base, uid_t uid, pid_t pid) {
  const int fd = Open(base, uid, O_RDWR);
  if (fd < 0) return;
  Bucket bucket;
  if (ReadBucket(fd, pid, &bucket)) {
    for (size_t i = 0; i < kEntries; ++i) {
      if (IsFor(bucket.entries[i], pid)) WriteEntry(fd, pid, i, Handover{});
    }
  }
  sys::Close(fd);
}

int SayNoLongerShared(const char* base, uid_t uid, pid_t pid, uint64_t cookie, uint64_t left_ns) {
  const int fd = Open(base, uid, O_RDWR);
  if (fd < 0) return fd;
  Bucket bucket;
  int error = ReadBucket(fd, pid, &bucket) ? -ENOENT : -EIO;
  for (size_t i = 0; i < kEntries && error != -EIO; ++i) {
    const Handover& note = bucket.entries[i];
    if (!IsFor(note, pid) || note.cookie != cookie || note.left_ns != left_ns) continue;
    const uint32_t alone = AloneIn(note);
    const long put = sys::Call(SYS_pwrite64, fd, sys::Word(&alone), sizeof alone,
                               EntryAt(pid, i) + static_cast<off_t>(offsetof(Handover, shared)));
    error = put == sizeof alone ? 0 : -EIO;
  }
  sys::Close(fd);
  return error;
}

bool IsStillShared(const char* base, uid_t uid, pid_t pid, uint64_t cookie) {
  const int fd = Open(base, uid, O_RDONLY);
  if (fd < 0) return true;
  Bucket bucket;
  bool shared = true;
  if (ReadBucket(fd, pid, &bucket)) {
    for (const Handover& note : bucket.entries)
      if (IsFor(note, pid) && note.cookie == cookie) shared = note.shared != 0;
  }
  sys::Close(fd);
  return shared;
}

}  // namespace xenloop

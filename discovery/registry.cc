// See registry.h.
#include "discovery/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "channel/base/sys.h"
#include "discovery/runtime_directory.h"

namespace xenloop {
namespace {

constexpr size_t kBuckets = 16384;
constexpr size_t kEntriesPerBucket = 4;

struct Entry {
  uint64_t hash;
  uint64_t agent_id;
};
static_assert(sizeof(Entry) == 16);

long AsLong(const void* pointer) { return reinterpret_cast<long>(pointer); }

off_t OffsetOf(uint64_t hash) {
  return static_cast<off_t>((hash % kBuckets) * kEntriesPerBucket * sizeof(Entry));
}

}  // namespace

int Registry::Open(const char* base, uid_t uid, Reason* reason) {
  Close();
  if (strlen(base) >= sizeof base_) {
    *reason = Reason::kDirectoryName;
    return -ENAMETOOLONG;
  }
  strcpy(base_, base);
  uid_ = uid;
  const int made = MakeRuntimeDirectory(base, uid, reason);
  if (made < 0) return made;
  hints_fd_ = OpenRuntimeFile(base, uid, "hints", O_RDWR | O_CREAT, 0644, reason);
  return hints_fd_ < 0 ? hints_fd_ : 0;
}

void Registry::Close() {
  if (hints_fd_ >= 0) sys::Close(hints_fd_);
  hints_fd_ = -1;
}

int Registry::Publish(uint64_t hash, uint64_t agent_id) {
  if (!sys::MayWriteFileOf(kBuckets * kEntriesPerBucket * sizeof(Entry))) return -EFBIG;
  if (hints_fd_ < 0) return -EBADF;
  Entry bucket[kEntriesPerBucket] = {};
  const long got = sys::Call(SYS_pread64, hints_fd_, AsLong(bucket), sizeof bucket, OffsetOf(hash));
  if (got < 0) return static_cast<int>(got);
  if (bucket[0].hash == hash && bucket[0].agent_id == agent_id) return 0;  // tried again
  // The newest comes first: a full bucket loses its oldest hint, never one that somebody has just
  // published and that is about to be looked up.
  size_t last = 0;
  while (last < kEntriesPerBucket - 1 && bucket[last].hash != hash && bucket[last].agent_id != 0)
    ++last;
  for (size_t i = last; i > 0; --i) bucket[i] = bucket[i - 1];
  bucket[0] = {hash, agent_id};
  const auto length = static_cast<long>((last + 1) * sizeof(Entry));
  const long put = sys::Call(SYS_pwrite64, hints_fd_, AsLong(bucket), length, OffsetOf(hash));
  if (put < 0) return static_cast<int>(put);
  return put == length ? 0 : -ENOSPC;
}

size_t Registry::Lookup(uid_t uid, uint64_t hash, uint64_t* out, size_t capacity) {
  int fd = hints_fd_;
  if (uid != uid_ || fd < 0) {
    Reason reason = Reason::kNone;
    fd = OpenRuntimeFile(base_, uid, "hints", O_RDONLY, 0, &reason);
    if (fd < 0) return 0;
  }
  Entry bucket[kEntriesPerBucket] = {};
  const long got = sys::Call(SYS_pread64, fd, AsLong(bucket), sizeof bucket, OffsetOf(hash));
  if (fd != hints_fd_) sys::Close(fd);
  size_t found = 0;
  for (size_t i = 0; i < kEntriesPerBucket && got > 0 && found < capacity; ++i) {
    if (bucket[i].hash == hash && bucket[i].agent_id != 0) out[found++] = bucket[i].agent_id;
  }
  return found;
}

socklen_t AgentAddress(const char* realm_base, uid_t uid, uint64_t agent_id, sockaddr_un* address) {
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  const bool abstract = realm_base[0] == '\0';
  char* name = address->sun_path + (abstract ? 1 : 0);
  const size_t room = sizeof address->sun_path - (abstract ? 1 : 0);
  const int n = abstract ? snprintf(name, room, "xenloop/%u/%016lx", uid,
                                    static_cast<unsigned long>(agent_id))
                         : snprintf(name, room, "%s/xenloop-%u/%016lx.sock", realm_base, uid,
                                    static_cast<unsigned long>(agent_id));
  if (n < 0 || static_cast<size_t>(n) >= room) return 0;
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + static_cast<size_t>(n) + 1u);
}

}  // namespace xenloop

// See peer_table.h. Part of libxenloop.so: libc's headers and raw system calls only.
#include "discovery/peer_table.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstring>

#include "channel/base/descriptor.h"
#include "channel/base/sys.h"

namespace xenloop {
namespace {

// A writer needs microseconds. One that died half-way leaves the sequence odd for ever, so a reader
// gives up and says "nobody", which means TCP.
constexpr int kTries = 100;

// Between two looks at the sequence. Acquire: the second look stays behind these loads, and if one
// of them sees a new value, stored with release after the odd sequence, the second look sees that
// too.
constexpr std::memory_order kContent = std::memory_order_acquire;

}  // namespace

int CompareAddresses(const uint64_t a[2], const uint64_t b[2]) { return memcmp(a, b, 16); }

int PeerTable::Open(const char* path, uid_t owner) {
  Close();
  const long opened = sys::MakeDescriptor(SYS_openat, AT_FDCWD, reinterpret_cast<long>(path),
                                          O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (opened < 0) return static_cast<int>(opened);
  const int fd = static_cast<int>(opened);
  struct stat about = {};
  long result = sys::Call(SYS_newfstatat, fd, reinterpret_cast<long>(""),
                          reinterpret_cast<long>(&about), AT_EMPTY_PATH);
  if (result == 0) {
    if (!S_ISREG(about.st_mode) || (about.st_uid != 0 && about.st_uid != owner) ||
        (about.st_mode & 022) != 0) {
      result = -EPERM;
    } else if (about.st_size < static_cast<off_t>(kPeerTableBytes)) {
      result = -EPROTO;
    } else {
      result =
          sys::Call(SYS_mmap, 0, static_cast<long>(kPeerTableBytes), PROT_READ, MAP_SHARED, fd, 0);
    }
  }
  sys::Close(fd);
  if (result < 0 && result > -4096) return static_cast<int>(result);
  header_ = reinterpret_cast<const PeerTableHeader*>(result);
  // Acquire: pairs with the writer's release of the magic, its last step in making the file.
  if (header_->magic.load(std::memory_order_acquire) != kPeerTableMagic ||
      header_->version.load(std::memory_order_relaxed) != kPeerTableVersion) {
    Close();
    return -EPROTO;
  }
  return 0;
}

void PeerTable::Close() {
  if (header_ == nullptr) return;
  sys::Call(SYS_munmap, reinterpret_cast<long>(header_), static_cast<long>(kPeerTableBytes));
  header_ = nullptr;
}

bool PeerTable::Find(const uint8_t address[16], Peer* peer) const {
  if (header_ == nullptr) return false;
  uint64_t wanted[2];
  memcpy(wanted, address, 16);
  for (int tries = 0; tries < kTries; ++tries) {
    // Acquire: what follows is at least as new as the state that this sequence ended.
    const uint64_t before = header_->sequence.load(std::memory_order_acquire);
    if ((before & 1) != 0) {
      sys::Pause();
      continue;
    }
    uint32_t low = 0;
    uint32_t high = header_->count.load(kContent);
    if (high > kPeerTableCapacity) return false;
    bool found = false;
    Peer answer;
    while (low < high && !found) {
      const uint32_t middle = low + (high - low) / 2;
      const PeerTableEntry& entry = header_->entries()[middle];
      const uint64_t here[2] = {entry.address[0].load(kContent), entry.address[1].load(kContent)};
      const int order = CompareAddresses(wanted, here);
      if (order == 0) {
        answer.domid = entry.domid.load(kContent);
        answer.generation = entry.generation.load(kContent);
        found = true;
      } else if (order < 0) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    if (header_->sequence.load(std::memory_order_relaxed) != before) continue;
    if (found) *peer = answer;
    return found;
  }
  return false;
}

size_t PeerTable::Snapshot(PeerTableRow* rows, size_t capacity) const {
  if (header_ == nullptr) return 0;
  for (int tries = 0; tries < kTries; ++tries) {
    const uint64_t before = header_->sequence.load(std::memory_order_acquire);  // as in Find()
    if ((before & 1) != 0) {
      sys::Pause();
      continue;
    }
    size_t count = header_->count.load(kContent);
    if (count > kPeerTableCapacity) return 0;
    if (count > capacity) count = capacity;
    for (size_t i = 0; i < count; ++i) {
      const PeerTableEntry& entry = header_->entries()[i];
      const uint64_t words[2] = {entry.address[0].load(kContent), entry.address[1].load(kContent)};
      memcpy(rows[i].address, words, 16);
      rows[i].peer.domid = entry.domid.load(kContent);
      rows[i].peer.generation = entry.generation.load(kContent);
    }
    if (header_->sequence.load(std::memory_order_relaxed) == before) return count;
  }
  return 0;
}

uint64_t PeerTable::sequence() const {
  return header_ == nullptr ? 0 : header_->sequence.load(std::memory_order_acquire);
}

uint32_t PeerTable::own_domid() const {
  return header_ == nullptr ? kNoDomid : header_->own_domid.load(std::memory_order_relaxed);
}

bool PeerTable::empty() const {
  return header_ == nullptr || header_->count.load(std::memory_order_relaxed) == 0;
}

}  // namespace xenloop

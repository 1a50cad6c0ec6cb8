// The table of coresident peers: which address is whose domain? One file that the guest's xenloopd
// writes (peer_table_writer.h) and every process maps read-only, so that a question costs no system
// call. Changes are counted as a sequence lock counts them: a reader sees a whole state or, for a
// moment, nothing.
//
//   offset  bytes  PeerTableHeader
//        0      8  magic "XENPEERS"
//        8      4  layout version, 1
//       12      4  capacity: entries that fit into the file
//       16      8  sequence: odd while the writer is at it
//       24      4  count: entries in use, sorted by address
//       28      4  domid of this guest, ~0 when not known
//       32     32  reserved, 0
//       64     32  each entry: PeerTableEntry {address high, low; domid; generation; reserved}
//
// The file belongs to root and never shrinks, so mapped pages stay. What it says is a hint as to
// whom to ask: the daemons check each other before a byte moves.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace xenloop {

inline constexpr char kPeerTablePath[] = "/run/xenloop/peers";
inline constexpr uint32_t kNoDomid = 0xffffffff;

struct Peer {
  uint32_t domid = kNoDomid;
  uint32_t generation = 0;  // another one whenever the address may mean another guest than before
};

struct PeerTableRow {
  uint8_t address[16] = {};
  Peer peer;
};

struct PeerTableEntry {
  std::atomic<uint64_t> address[2];  // the 16 bytes as they lie in memory
  std::atomic<uint32_t> domid;
  std::atomic<uint32_t> generation;
  std::atomic<uint64_t> reserved;
};
static_assert(sizeof(PeerTableEntry) == 32 && std::atomic<uint64_t>::is_always_lock_free);

struct PeerTableHeader {
  std::atomic<uint64_t> magic;
  std::atomic<uint32_t> version;
  std::atomic<uint32_t> capacity;
  std::atomic<uint64_t> sequence;
  std::atomic<uint32_t> count;
  std::atomic<uint32_t> own_domid;
  std::atomic<uint64_t> reserved[4];

  PeerTableEntry* entries() { return reinterpret_cast<PeerTableEntry*>(this + 1); }
  const PeerTableEntry* entries() const {
    return reinterpret_cast<const PeerTableEntry*>(this + 1);
  }
};
static_assert(sizeof(PeerTableHeader) == 64 && offsetof(PeerTableHeader, sequence) == 16 &&
              offsetof(PeerTableHeader, own_domid) == 28);

inline constexpr uint64_t kPeerTableMagic = 0x53524545504e4558ull;  // "XENPEERS", little end first
inline constexpr uint32_t kPeerTableVersion = 1;
inline constexpr uint32_t kPeerTableCapacity = 1022;  // 32 KiB in all
inline constexpr size_t kPeerTableBytes =
    sizeof(PeerTableHeader) + kPeerTableCapacity * sizeof(PeerTableEntry);

// The order of the table: that of the bytes, as memcmp has it.
int CompareAddresses(const uint64_t a[2], const uint64_t b[2]);

// A reader. Find() may be called by any number of threads and from signal handlers while nobody
// calls Open() or Close().
class PeerTable {
 public:
  // Maps the file. 0, or -errno: -ENOENT when there is none (no xenloopd), -EPERM when it belongs
  // to somebody else than `owner` or root or others may write it, -EPROTO when it is no such table.
  int Open(const char* path = kPeerTablePath, uid_t owner = 0);
  void Close();
  bool is_open() const { return header_ != nullptr; }

  // Whose is the address (network order, IPv4 as ::ffff:a.b.c.d)? No system call.
  bool Find(const uint8_t address[16], Peer* peer) const;

  // All rows, up to `capacity`, as they stood at one moment. How many; 0 if no moment was quiet.
  size_t Snapshot(PeerTableRow* rows, size_t capacity) const;

  // Changes whenever the table has changed: what Find() said before may be wrong now.
  uint64_t sequence() const;
  uint32_t own_domid() const;
  bool empty() const;

 private:
  const PeerTableHeader* header_ = nullptr;
};

}  // namespace xenloop

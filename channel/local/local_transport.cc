// Transport between processes and containers of one kernel: a FIFO is a sealed memfd, a doorbell a
// spent socket beside a page that says whether anybody sleeps.
//
// The doorbell is held by peers that do not trust each other, so nobody who holds it may be able to
// silence it, or to stop those who ring it. With an eventfd each of them could: O_NONBLOCK belongs
// to all holders, so that a full counter blocks a writer, and a counter that is read or full makes
// no edge. A stream socket whose other end is closed has no state left to change, no queue to fill
// and nothing to read; to shut it down once more wakes all who wait for it, and never blocks.
#include "channel/local/local_transport.h"

#include <errno.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <utility>

#include "channel/base/descriptor.h"
#include "channel/base/replace_by_copy.h"
#include "channel/base/sys.h"

namespace xenloop {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kDoorbellBytes = kMostBells * kLineBytes;
static_assert(sizeof(DoorbellPage) <= kLineBytes && kDoorbellBytes % kPageBytes == 0);

size_t RoundToPages(size_t bytes) { return (bytes + kPageBytes - 1) & ~(kPageBytes - 1); }

long AsLong(const void* pointer) { return reinterpret_cast<long>(pointer); }

bool IsMapError(long result) { return result < 0 && result > -4096; }

void CloseTicket(Ticket* ticket) {
  for (int& fd : ticket->fds) {
    if (fd >= 0) sys::Close(fd);
    fd = -1;
  }
}

// A memfd of exactly `bytes` that can neither shrink (a SIGBUS for the other end) nor grow.
int CreateSealed(const char* name, size_t bytes, int extra_seals, void** memory) {
  if (!sys::MayWriteFileOf(bytes)) return -EFBIG;
  const long fd =
      sys::MakeDescriptor(SYS_memfd_create, AsLong(name), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return static_cast<int>(fd);
  // Nothing of what the program may have written to a number that it had closed, and the memfd had
  // for a moment, shall be left.
  long result = sys::Call(SYS_ftruncate, fd, 0);
  if (result == 0) result = sys::Call(SYS_ftruncate, fd, static_cast<long>(bytes));
  if (result == 0) {
    result =
        sys::Call(SYS_mmap, 0, static_cast<long>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  if (!IsMapError(result)) {
    *memory = reinterpret_cast<void*>(result);
    result = sys::Call(SYS_fcntl, fd, F_ADD_SEALS,
                       F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | extra_seals);
    if (result == 0) return static_cast<int>(fd);
    sys::Call(SYS_munmap, AsLong(*memory), static_cast<long>(bytes));
  }
  sys::Close(static_cast<int>(fd));
  return static_cast<int>(result);
}

// The size of a memfd that cannot shrink any more, or -errno. One from the pool of huge pages can
// have its pages taken out all the same, and the pool be used up: the next touch is a SIGBUS.
long SoundSize(int fd) {
  const long seals = sys::Call(SYS_fcntl, fd, F_GET_SEALS);
  if (seals < 0) return -EPERM;
  if ((seals & F_SEAL_SHRINK) == 0) return -EPERM;
  struct statfs where;
  if (sys::Call(SYS_fstatfs, fd, AsLong(&where)) != 0 || where.f_type != TMPFS_MAGIC) return -EPERM;
  struct stat status;
  const long result = sys::Call(SYS_fstat, fd, AsLong(&status));
  return result < 0 ? result : status.st_size;
}

int CreateFifo(uint64_t capacity_bytes, FifoMapping* mapping, Ticket* ticket) {
  const size_t bytes = RoundToPages(FifoMemoryBytes(capacity_bytes));
  void* memory = nullptr;
  const int fd = CreateSealed("xenloop-fifo", bytes, 0, &memory);
  if (fd < 0) return fd;
  mapping->memory = memory;
  mapping->memory_bytes = bytes;
  mapping->transport = &LocalTransport();
  mapping->mine = true;
  mapping->fifo = Fifo::Initialise(memory, capacity_bytes);
  ticket->fds[0] = fd;
  return 0;
}

int MapFifo(Ticket* ticket, FifoMapping* mapping) {
  const long size = SoundSize(ticket->fds[0]);
  if (size < 0 || size > static_cast<long>(RoundToPages(FifoMemoryBytes(kMaxFifoBytes)))) {
    CloseTicket(ticket);
    return size < 0 ? static_cast<int>(size) : -EPROTO;
  }
  const long result =
      sys::Call(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_SHARED, ticket->fds[0], 0);
  CloseTicket(ticket);
  if (IsMapError(result)) return static_cast<int>(result);
  mapping->memory = reinterpret_cast<void*>(result);
  mapping->memory_bytes = static_cast<size_t>(size);
  mapping->fifo = Fifo::Adopt(mapping->memory, mapping->memory_bytes);
  mapping->transport = &LocalTransport();
  if (mapping->fifo) return 0;
  sys::Call(SYS_munmap, result, size);
  *mapping = FifoMapping{};
  return -EPROTO;
}

void Unmap(FifoMapping* mapping) {
  if (mapping->memory != nullptr) {
    sys::Call(SYS_munmap, AsLong(mapping->memory), static_cast<long>(mapping->memory_bytes));
  }
  *mapping = FifoMapping{};
}

void DiscardData(const FifoMapping& mapping) {
  if (mapping.memory_bytes <= kPageBytes) return;
  sys::Call(SYS_madvise, AsLong(mapping.memory) + static_cast<long>(kPageBytes),
            static_cast<long>(mapping.memory_bytes - kPageBytes), MADV_REMOVE);
}

int KeepCopy(FifoMapping* mapping) {
  return ReplaceByCopy(mapping->memory, mapping->memory_bytes, mapping->memory_bytes);
}

long Shut(int fd) { return sys::Call(SYS_shutdown, fd, SHUT_RD); }
void Ring(const Doorbell& doorbell) {
  if (doorbell.fd >= 0) Shut(doorbell.fd);
}

int CreateSpentSocket() {
  int pair[2];
  const sys::LowNumber low;
  const long made = sys::Call(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                              0, AsLong(pair));
  if (made < 0) return static_cast<int>(made);
  sys::Close(pair[1]);
  return static_cast<int>(sys::MoveUp(pair[0], sys::DescriptorBase()));
}

int CreateDoorbell(Doorbell* doorbell, Ticket* ticket) {
  const int fd = CreateSpentSocket();
  if (fd < 0) return fd;
  void* memory = nullptr;
  // FUTURE_WRITE: peers can map the page for reading only.
  const int page_fd =
      CreateSealed("xenloop-doorbell", kDoorbellBytes, F_SEAL_FUTURE_WRITE, &memory);
  if (page_fd < 0) {
    sys::Close(fd);
    return page_fd;
  }
  doorbell->fd = fd;
  doorbell->owns_fd = true;
  doorbell->lines = kMostBells;
  doorbell->page = doorbell->own_page = static_cast<DoorbellPage*>(memory);
  doorbell->ring = Ring;
  ticket->fds[0] = doorbell->fd;
  ticket->fds[1] = page_fd;
  return 0;
}

// Ringing must neither block nor fail, be it for a filter of system calls: tried once. Asked of the
// socket layer only; what a file system answers (fstat) may take its time.
bool IsDoorbell(int fd) {
  int domain = 0;
  int type = 0;
  for (const auto& [name, value] : {std::pair{SO_DOMAIN, &domain}, std::pair{SO_TYPE, &type}}) {
    socklen_t length = sizeof *value;
    if (sys::Call(SYS_getsockopt, fd, SOL_SOCKET, name, AsLong(value), AsLong(&length)) < 0)
      return false;
  }
  return domain == AF_UNIX && type == SOCK_STREAM && Shut(fd) == 0;
}

int MapDoorbell(Ticket* ticket, Doorbell* doorbell) {
  const long size = IsDoorbell(ticket->fds[0]) ? SoundSize(ticket->fds[1]) : -EPERM;
  long result = size < 0 ? size : -EPROTO;
  if (size == static_cast<long>(kDoorbellBytes)) {
    result = sys::Call(SYS_mmap, 0, size, PROT_READ, MAP_SHARED, ticket->fds[1], 0);
  }
  if (IsMapError(result)) {
    CloseTicket(ticket);
    return static_cast<int>(result);
  }
  doorbell->fd = ticket->fds[0];
  doorbell->owns_fd = true;
  doorbell->lines = kMostBells;
  doorbell->page = reinterpret_cast<DoorbellPage*>(result);
  doorbell->ring = Ring;
  ticket->fds[0] = -1;
  CloseTicket(ticket);
  return 0;
}

void ReleaseDoorbell(Doorbell* doorbell) {
  if (doorbell->fd >= 0) sys::Close(doorbell->fd);
  if (doorbell->page != nullptr) sys::Call(SYS_munmap, AsLong(doorbell->page), kDoorbellBytes);
  *doorbell = Doorbell{};
}

int MapBell(Ticket* ticket) {
  const int fd = ticket->fds[0];
  if (!IsDoorbell(fd)) {
    CloseTicket(ticket);
    return -EPERM;
  }
  ticket->fds[0] = -1;
  CloseTicket(ticket);
  return fd;
}

constexpr Transport kLocalTransport{"local",     /*foreign=*/false, /*doorbell_per_peer=*/false,
                                    CreateFifo,  MapFifo,           Unmap,
                                    DiscardData, KeepCopy,          CreateDoorbell,
                                    MapDoorbell, ReleaseDoorbell,   CreateSpentSocket,
                                    MapBell};

}  // namespace

const Transport& LocalTransport() { return kLocalTransport; }

}  // namespace xenloop

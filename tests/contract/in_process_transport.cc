// See in_process_transport.h. A table of what has been offered, by number; memory lives until both
// ends have let go.
#include "tests/contract/in_process_transport.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

namespace xenloop {
namespace {

void Ring(const Doorbell& doorbell) { shutdown(doorbell.fd, SHUT_RD); }

struct Offered {
  void* memory;
  size_t bytes;
  int users;
  int fd;  // of a doorbell, else -1
};
std::mutex mutex;
std::map<uint64_t, Offered> offered;
uint64_t next_number = 1;

uint64_t Keep(size_t bytes, int fd, void** memory) {
  *memory = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  memset(*memory, 0, bytes);
  offered[next_number] = Offered{*memory, bytes, 1, fd};
  return next_number++;
}
Offered* Find(uint64_t number) {
  const auto found = offered.find(number);
  return found == offered.end() ? nullptr : &found->second;
}
void LetGo(const void* memory) {
  const std::lock_guard<std::mutex> lock(mutex);
  for (auto i = offered.begin(); i != offered.end(); ++i) {
    if (i->second.memory != memory || --i->second.users > 0) continue;
    std::free(i->second.memory);
    if (i->second.fd >= 0) close(i->second.fd);
    offered.erase(i);
    return;
  }
}

int CreateFifo(uint64_t capacity_bytes, FifoMapping* mapping, Ticket* ticket) {
  const std::lock_guard<std::mutex> lock(mutex);
  mapping->memory_bytes = FifoMemoryBytes(capacity_bytes);
  ticket->words[0] = Keep(mapping->memory_bytes, -1, &mapping->memory);
  mapping->transport = &InProcessTransport();
  mapping->mine = true;
  mapping->fifo = Fifo::Initialise(mapping->memory, capacity_bytes);
  return 0;
}
int MapFifo(Ticket* ticket, FifoMapping* mapping) {
  const std::lock_guard<std::mutex> lock(mutex);
  Offered* found = Find(ticket->words[0]);
  if (found == nullptr || found->fd >= 0) return -EPERM;
  const Fifo fifo = Fifo::Adopt(found->memory, found->bytes);
  if (!fifo) return -EPROTO;
  ++found->users;
  *mapping = FifoMapping{fifo, found->memory, found->bytes, &InProcessTransport()};
  return 0;
}
void Release(FifoMapping* mapping) {
  LetGo(mapping->memory);
  *mapping = FifoMapping{};
}
void DiscardData(const FifoMapping& mapping) {
  memset(mapping.fifo.data, 0, mapping.fifo.capacity_bytes);
}
int CreateDoorbell(Doorbell* doorbell, Ticket* ticket) {
  const std::lock_guard<std::mutex> lock(mutex);
  void* memory = nullptr;
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return -errno;
  close(pair[1]);
  doorbell->fd = pair[0];
  ticket->words[0] = Keep(sizeof(DoorbellPage), doorbell->fd, &memory);
  doorbell->page = doorbell->own_page = static_cast<DoorbellPage*>(memory);
  doorbell->ring = Ring;
  return 0;
}
int MapDoorbell(Ticket* ticket, Doorbell* doorbell) {
  const std::lock_guard<std::mutex> lock(mutex);
  Offered* found = Find(ticket->words[0]);
  if (found == nullptr || found->fd < 0) return -EPERM;
  ++found->users;
  *doorbell = Doorbell{};
  doorbell->fd = found->fd;
  doorbell->page = static_cast<DoorbellPage*>(found->memory);
  doorbell->ring = Ring;
  return 0;
}
int KeepCopy(FifoMapping*) { return -ENOSYS; }  // the memory is private as it is
void ReleaseDoorbell(Doorbell* doorbell) {
  LetGo(doorbell->page);
  *doorbell = Doorbell{};
}

constexpr Transport kInProcess{"in-process", /*foreign=*/false, /*doorbell_per_peer=*/false,
                               CreateFifo,   MapFifo,           Release,
                               DiscardData,  KeepCopy,          CreateDoorbell,
                               MapDoorbell,  ReleaseDoorbell};

}  // namespace

const Transport& InProcessTransport() { return kInProcess; }

}  // namespace xenloop

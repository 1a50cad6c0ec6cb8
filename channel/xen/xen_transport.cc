// See xen_transport.h.
#include "channel/xen/xen_transport.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "channel/base/replace_by_copy.h"
#include "channel/base/sys.h"

namespace xenloop {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr uint32_t kMaxDomains = 64;

// Words of a FIFO's ticket: reference of the header page, pages, identity. Of a doorbell's:
// reference of the page, port to bind to (0: none).
enum { kReference, kPages, kIdentity };
enum { kBellReference, kBellPort };

// A doorbell's handles: its port, 0 for none; the mapping of the peer's page; whether that page has
// said that its owner is alive.
enum { kPort, kMapping, kTellsDeath };

const XenCalls* calls = nullptr;
XenBudget budget;
uint64_t next_identity = 0;

// Our sleepers' pages, one a domain: all our channels to its processes use it. The last of them
// ends the grant, for that is given to a number, which means another guest after a migration. The
// memory stays: any thread may be about to count itself there.
struct SleeperPage {
  uint32_t domid;
  uint32_t reference;
  DoorbellPage* page;
  uint64_t handle;
  uint32_t users;  // doorbells; 0: not granted
};
SleeperPage sleeper_pages[kMaxDomains];
uint32_t sleeper_page_count = 0;

std::atomic<uint8_t>& AliveIn(DoorbellPage* page) {
  return reinterpret_cast<XenSleepersPage*>(page)->alive;
}

uint32_t PagesOf(uint64_t capacity_bytes) {
  return static_cast<uint32_t>((FifoMemoryBytes(capacity_bytes) + kPageBytes - 1) / kPageBytes);
}

uint8_t* Reserve(uint32_t pages) {
  const long memory = sys::Call(SYS_mmap, 0, static_cast<long>(pages * kPageBytes), PROT_NONE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory < 0 && memory > -4096 ? nullptr : reinterpret_cast<uint8_t*>(memory);
}
void Unreserve(void* memory, uint32_t pages) {
  sys::Call(SYS_munmap, reinterpret_cast<long>(memory), static_cast<long>(pages * kPageBytes));
}

uint64_t NewIdentity() {
  uint64_t random = 0;
  sys::Call(SYS_getrandom, reinterpret_cast<long>(&random), sizeof random, 0);
  return random ^ ++next_identity;
}

// The largest FIFO that the budget has room for, not larger than asked for: one FIFO may take an
// eighth of the guest's pages, and ever less of what is left to us. 0: none.
uint64_t CapacityWithin(uint64_t wanted_bytes) {
  const uint32_t left =
      budget.share_pages > budget.used_pages ? budget.share_pages - budget.used_pages : 0;
  const uint32_t most = left < budget.limit_pages / 8 ? left : budget.limit_pages / 8;
  uint64_t capacity = wanted_bytes < kMaxXenFifoBytes ? wanted_bytes : kMaxXenFifoBytes;
  const uint64_t least = capacity < kLeastXenFifoBytes ? capacity : kLeastXenFifoBytes;
  while (capacity > least && PagesOf(capacity) > most) capacity /= 2;
  return PagesOf(capacity) <= left ? capacity : 0;
}

int ShareFifo(uint64_t capacity_bytes, uint32_t domid, FifoMapping* mapping, Ticket* ticket) {
  const uint32_t pages = PagesOf(capacity_bytes);
  uint8_t* const memory = Reserve(pages);
  if (memory == nullptr) return -ENOMEM;
  uint32_t references[kMaxXenFifoPages];
  int error = calls->share(domid, 1, Access::kWrite, memory, references, &mapping->handles[0]);
  if (error == 0) {
    error = calls->share(domid, pages - 1, Access::kRead, memory + kPageBytes, references + 1,
                         &mapping->handles[1]);
    if (error != 0) calls->unshare(memory, 1, mapping->handles[0]);
  }
  if (error != 0) {
    Unreserve(memory, pages);
    return error;
  }
  memset(memory, 0, kPageBytes);
  mapping->memory = memory;
  mapping->memory_bytes = pages * kPageBytes;
  mapping->transport = &XenTransport();
  mapping->mine = true;
  mapping->fifo = Fifo::Initialise(memory, capacity_bytes);
  mapping->fifo.foreign = true;
  mapping->fifo.header->identity = NewIdentity();
  memcpy(mapping->fifo.data, references + 1, (pages - 1) * sizeof(uint32_t));
  ticket->words[kReference] = references[0];
  ticket->words[kPages] = pages;
  ticket->words[kIdentity] = mapping->fifo.header->identity;
  budget.used_pages += pages;
  return 0;
}

int CreateFifo(uint64_t capacity_bytes, FifoMapping* mapping, Ticket* ticket) {
  for (uint64_t capacity = CapacityWithin(capacity_bytes); capacity != 0; capacity /= 2) {
    const int error = ShareFifo(capacity, ticket->peer, mapping, ticket);
    // Other processes have taken what the guest has: be content with less.
    if (error != -ENOSPC && error != -ENOMEM) return error;
    if (capacity / 2 < kLeastXenFifoBytes) break;
  }
  return -ENOSPC;
}

int MapFifo(Ticket* ticket, FifoMapping* mapping) {
  const auto pages = static_cast<uint32_t>(ticket->words[kPages]);
  const auto header = static_cast<uint32_t>(ticket->words[kReference]);
  if (ticket->words[kPages] < 2 || ticket->words[kPages] > kMaxXenFifoPages ||
      ticket->words[kReference] > UINT32_MAX) {
    return -EPROTO;
  }
  uint8_t* const memory = Reserve(pages);
  if (memory == nullptr) return -ENOMEM;
  int error = calls->map(ticket->peer, &header, 1, Access::kWrite, memory, &mapping->handles[0]);
  if (error == 0) {
    // Nothing is written before we know that the page is the one its owner means: a process of
    // that domain could name a page that belongs to another.
    const auto* shared = reinterpret_cast<const FifoHeader*>(memory);
    uint32_t references[kMaxXenFifoPages];
    memcpy(references, memory + kFifoDataOffset, (pages - 1) * sizeof(uint32_t));
    error = *const_cast<const volatile uint64_t*>(&shared->identity) == ticket->words[kIdentity]
                ? calls->map(ticket->peer, references, pages - 1, Access::kRead,
                             memory + kPageBytes, &mapping->handles[1])
                : -EPROTO;
    if (error == 0) {
      mapping->fifo = Fifo::Adopt(memory, pages * kPageBytes);
      if (mapping->fifo) {
        mapping->fifo.foreign = true;
        mapping->memory = memory;
        mapping->memory_bytes = pages * kPageBytes;
        mapping->transport = &XenTransport();
        mapping->mine = false;
        return 0;
      }
      error = -EPROTO;
      calls->unmap(memory + kPageBytes, pages - 1, mapping->handles[1]);
    }
    calls->unmap(memory, 1, mapping->handles[0]);
  }
  Unreserve(memory, pages);
  *mapping = FifoMapping{};
  return error;
}

void Release(FifoMapping* mapping) {
  if (mapping->memory != nullptr && calls != nullptr) {
    auto* const memory = static_cast<uint8_t*>(mapping->memory);
    const auto pages = static_cast<uint32_t>(mapping->memory_bytes / kPageBytes);
    const auto release = mapping->mine ? calls->unshare : calls->unmap;
    release(memory + kPageBytes, pages - 1, mapping->handles[1]);
    release(memory, 1, mapping->handles[0]);
    Unreserve(memory, pages);
    if (mapping->mine) budget.used_pages -= pages;
  }
  *mapping = FifoMapping{};
}

// Granted pages cannot be given back while the other domain maps them.
void DiscardData(const FifoMapping&) {}

// `release` clears away what it finds at an address: a hole of ours, as the place has been taken
// over.
void ReleaseElsewhere(void (*release)(void*, uint32_t, uint64_t), uint32_t pages, uint64_t handle) {
  uint8_t* const hole = Reserve(pages);
  if (hole == nullptr) return;  // then it ends with the process
  release(hole, pages, handle);
  Unreserve(hole, pages);
}

// A place for a page that will be granted: one that is free, and where nobody counts any more who
// counted himself in the place's former life.
SleeperPage* FreeSleeperPage() {
  for (uint32_t i = 0; i < sleeper_page_count; ++i) {
    SleeperPage& free = sleeper_pages[i];
    if (free.users == 0 && free.page->sleepers.load(std::memory_order_seq_cst) == 0) return &free;
  }
  if (sleeper_page_count == kMaxDomains) return nullptr;
  SleeperPage& made = sleeper_pages[sleeper_page_count];
  made = SleeperPage{};
  made.page = reinterpret_cast<DoorbellPage*>(Reserve(1));
  if (made.page == nullptr) return nullptr;
  return &made;
}

SleeperPage* SleepersFor(uint32_t domid, int* error) {
  for (uint32_t i = 0; i < sleeper_page_count; ++i) {
    if (sleeper_pages[i].users > 0 && sleeper_pages[i].domid == domid) return &sleeper_pages[i];
  }
  *error = -ENOSPC;
  if (budget.used_pages >= budget.share_pages) return nullptr;
  SleeperPage* const free = FreeSleeperPage();
  if (free == nullptr) return nullptr;
  const bool fresh = free == &sleeper_pages[sleeper_page_count];
  *error = calls->share(domid, 1, Access::kRead, free->page, &free->reference, &free->handle);
  if (*error != 0) {
    if (fresh) Unreserve(free->page, 1);
    return nullptr;
  }
  memset(static_cast<void*>(free->page), 0, kPageBytes);
  free->domid = domid;
  // Where the kernel cannot promise it, the page never says that we live: our TCP connection and
  // the daemons tell our end as well, only later.
  if (calls->clear_when_unshared(free->handle, offsetof(XenSleepersPage, alive)) == 0)
    AliveIn(free->page).store(1, std::memory_order_release);
  ++budget.used_pages;
  if (fresh) ++sleeper_page_count;
  return free;
}

void LeaveSleepers(const DoorbellPage* page) {
  for (uint32_t i = 0; i < sleeper_page_count; ++i) {
    SleeperPage& left = sleeper_pages[i];
    if (left.page != page || left.users == 0) continue;
    if (left.users == 1 && ReplaceByCopy(left.page, kPageBytes, kPageBytes) != 0)
      return;  // stays granted, and in use
    if (--left.users > 0) return;
    ReleaseElsewhere(calls->unshare, 1, left.handle);
    --budget.used_pages;
  }
}

void Ring(const Doorbell& doorbell) {
  if (calls != nullptr) calls->ring(doorbell.fd, XenPortOf(doorbell));
}

void Connect(Doorbell* doorbell, uint32_t port) {
  doorbell->handles[kPort] = port;
  doorbell->fd = calls->ring_descriptor(port);
  doorbell->ring = Ring;
  ++budget.ports;
}

// One event channel serves both directions: who speaks first makes it, the other binds to it.
int CreateDoorbell(Doorbell* doorbell, Ticket* ticket) {
  int error = 0;
  SleeperPage* sleepers = SleepersFor(ticket->peer, &error);
  if (sleepers == nullptr) return error;
  if (doorbell->own_page == nullptr) ++sleepers->users;
  doorbell->own_page = sleepers->page;
  ticket->words[kBellReference] = sleepers->reference;
  ticket->words[kBellPort] = 0;
  if (XenPortOf(*doorbell) != 0) return 0;
  const int port = calls->bind_unbound(ticket->peer);
  if (port <= 0) return port < 0 ? port : -EIO;
  Connect(doorbell, static_cast<uint32_t>(port));
  ticket->words[kBellPort] = static_cast<uint64_t>(port);
  return 0;
}

int MapDoorbell(Ticket* ticket, Doorbell* doorbell) {
  if (ticket->words[kBellReference] > UINT32_MAX || ticket->words[kBellPort] > INT32_MAX)
    return -EPROTO;
  // Exactly one of the two makes the event channel.
  if ((ticket->words[kBellPort] != 0) == (XenPortOf(*doorbell) != 0)) return -EPROTO;
  const auto reference = static_cast<uint32_t>(ticket->words[kBellReference]);
  uint8_t* const memory = Reserve(1);
  if (memory == nullptr) return -ENOMEM;
  int error =
      calls->map(ticket->peer, &reference, 1, Access::kRead, memory, &doorbell->handles[kMapping]);
  if (error == 0 && XenPortOf(*doorbell) == 0) {
    const int port =
        calls->bind_interdomain(ticket->peer, static_cast<uint32_t>(ticket->words[kBellPort]));
    if (port > 0) {
      Connect(doorbell, static_cast<uint32_t>(port));
    } else {
      error = port < 0 ? port : -EIO;
      calls->unmap(memory, 1, doorbell->handles[kMapping]);
    }
  }
  if (error != 0) {
    Unreserve(memory, 1);
    return error;
  }
  doorbell->page = reinterpret_cast<DoorbellPage*>(memory);
  doorbell->handles[kTellsDeath] = AliveIn(doorbell->page).load(std::memory_order_acquire);
  // Our own end: the mapping's, by which the peer looks at its copy of the byte above. Without it
  // the peer learns it at the next ring.
  calls->ring_when_unmapped(doorbell->handles[kMapping], XenPortOf(*doorbell));
  return 0;
}

void ReleaseDoorbell(Doorbell* doorbell) {
  // In this order: the mapping's end still rings the port.
  if (calls != nullptr && doorbell->page != nullptr) {
    calls->unmap(doorbell->page, 1, doorbell->handles[kMapping]);
    Unreserve(doorbell->page, 1);
  }
  const uint32_t port = XenPortOf(*doorbell);
  if (calls != nullptr && port != 0) {
    // Else the port belongs to a descriptor of before a suspension without notice. Unbinding it
    // would stop the guest's kernel, and here its number may be another's.
    if (doorbell->fd == calls->ring_descriptor(port)) calls->unbind(port);
    --budget.ports;
  }
  if (calls != nullptr && doorbell->own_page != nullptr) LeaveSleepers(doorbell->own_page);
  *doorbell = Doorbell{};
}

int KeepCopy(FifoMapping* mapping) {
  if (calls == nullptr) return -EINVAL;
  const auto pages = static_cast<uint32_t>(mapping->memory_bytes / kPageBytes);
  // Pages of another guest that are gone read as all ones, and each word of them costs a trip to
  // the hypervisor: the header says enough.
  const size_t worth = mapping->fifo.CutOff() ? kFifoDataOffset : mapping->memory_bytes;
  if (const int error = ReplaceByCopy(mapping->memory, mapping->memory_bytes, worth); error != 0)
    return error;
  const auto release = mapping->mine ? calls->unshare : calls->unmap;
  ReleaseElsewhere(release, pages - 1, mapping->handles[1]);
  ReleaseElsewhere(release, 1, mapping->handles[0]);
  if (mapping->mine) budget.used_pages -= pages;
  return 0;
}

constexpr Transport kXenTransport{"xen",       /*foreign=*/true, /*doorbell_per_peer=*/true,
                                  CreateFifo,  MapFifo,          Release,
                                  DiscardData, KeepCopy,         CreateDoorbell,
                                  MapDoorbell, ReleaseDoorbell};

}  // namespace

const Transport& XenTransport() { return kXenTransport; }

void StartXenTransport(const XenCalls& with, uint32_t limit_pages) {
  constexpr uint32_t kUsualLimit = 1024;
  calls = &with;
  budget = XenBudget{};
  budget.limit_pages = limit_pages != 0 ? limit_pages : kUsualLimit;
  budget.share_pages = budget.limit_pages / 2;
  sleeper_page_count = 0;
}

void ForgetXenTransport() {
  calls = nullptr;
  budget = XenBudget{};
  sleeper_page_count = 0;
}

void ForgetXenGrants() {
  for (uint32_t i = 0; i < sleeper_page_count; ++i) sleeper_pages[i].domid = UINT32_MAX;
}

XenBudget CurrentXenBudget() { return budget; }

int BindDoorbell(uint32_t domid, uint32_t remote_port, Doorbell* doorbell) {
  const int port = calls->bind_interdomain(domid, remote_port);
  if (port <= 0) return port < 0 ? port : -EIO;
  Connect(doorbell, static_cast<uint32_t>(port));
  return 0;
}

bool XenOwnerIsDead(const Doorbell& doorbell) {
  return doorbell.handles[kTellsDeath] != 0 &&
         AliveIn(doorbell.page).load(std::memory_order_acquire) == 0;
}
uint32_t XenPortOf(const Doorbell& doorbell) {
  return static_cast<uint32_t>(doorbell.handles[kPort]);
}

int NextXenEvent() { return calls == nullptr ? -EAGAIN : calls->next_event(); }
void UnmaskXenEvent(uint32_t port) {
  if (calls != nullptr) calls->unmask(port);
}

}  // namespace xenloop

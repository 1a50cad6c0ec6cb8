// See fake_xen.h.
#include "tests/contract/fake_xen.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "channel/xen/xen_transport.h"

namespace xenloop {
namespace {

constexpr size_t kPage = 4096;

struct Granted {
  int fd;
  size_t offset;
  uint32_t domid;
  bool writable;
};
struct Share {
  int fd;
  int cleared = -1;  // this byte, when it ends
  std::vector<uint32_t> references;
};
struct Port {
  uint32_t domid;
  uint32_t other;  // 0: unbound
  int heard;       // a ring at the other end is an edge of this one
  int there;       // the other end's
};

std::mutex mutex;
std::map<uint32_t, Granted> grants;
std::map<uint64_t, Share> shares;
std::map<uint32_t, Port> ports;
int events = -1;             // epoll set of all that can be heard
std::set<uint32_t> pending;  // rung and not yet told
uint32_t next_reference = 100;
uint64_t next_handle = 1;
uint32_t next_port = 10;
uint32_t mapped = 0;
std::map<uint64_t, uint32_t> rings;  // by mapping: the port to ring when it ends
int share_countdown = -1;
int share_error = 0;

// Whoever shares with, or makes a port for, domain `domid`, is this one.
uint32_t PeerOf(uint32_t domid) { return domid == 0 ? 0 : 3 - domid; }

int ShareFake(uint32_t domid, uint32_t pages, Access access, void* at, uint32_t* references,
              uint64_t* handle) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (share_error != 0 && share_countdown-- <= 0) return share_error;
  if (grants.size() + pages > kFakeLimitPages) return -ENOSPC;
  const int fd = memfd_create("fake-grant", MFD_CLOEXEC);
  if (ftruncate(fd, static_cast<off_t>(pages * kPage)) != 0 ||
      mmap(at, pages * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
    return -errno;
  Share& share = shares[next_handle];
  share.fd = fd;
  *handle = next_handle++;
  for (uint32_t i = 0; i < pages; ++i) {
    references[i] = next_reference++;
    share.references.push_back(references[i]);
    grants[references[i]] = Granted{fd, i * kPage, domid, access == Access::kWrite};
  }
  return 0;
}

// The addresses stay reserved, as after an unmap by the real driver they would not be: who still
// uses them dies.
void LeaveNothingAt(void* at, uint32_t pages) {
  if (mmap(at, pages * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at)
    abort();
}

void UnshareFake(void* at, uint32_t pages, uint64_t handle) {
  const std::lock_guard<std::mutex> lock(mutex);
  LeaveNothingAt(at, pages);
  const auto found = shares.find(handle);
  if (found->second.cleared >= 0) {
    const char zero = 0;
    if (pwrite(found->second.fd, &zero, 1, found->second.cleared) != 1) abort();
  }
  for (const uint32_t reference : found->second.references) grants.erase(reference);
  close(found->second.fd);
  shares.erase(found);
}

int MapFake(uint32_t domid, const uint32_t* references, uint32_t pages, Access access, void* at,
            uint64_t* handle) {
  const std::lock_guard<std::mutex> lock(mutex);
  for (uint32_t i = 0; i < pages; ++i) {
    const auto found = grants.find(references[i]);
    if (found == grants.end() || PeerOf(found->second.domid) != domid) return -ENOENT;
    if (access == Access::kWrite && !found->second.writable) return -EACCES;
  }
  for (uint32_t i = 0; i < pages; ++i) {
    const Granted& grant = grants.find(references[i])->second;
    if (mmap(static_cast<char*>(at) + i * kPage, kPage,
             PROT_READ | (access == Access::kWrite ? PROT_WRITE : 0), MAP_SHARED | MAP_FIXED,
             grant.fd, static_cast<off_t>(grant.offset)) == MAP_FAILED)
      return -errno;
  }
  mapped += pages;
  *handle = next_handle++;
  return 0;
}

void UnmapFake(void* at, uint32_t pages, uint64_t handle) {
  const std::lock_guard<std::mutex> lock(mutex);
  LeaveNothingAt(at, pages);
  mapped -= pages;
  const auto ring = rings.find(handle);
  if (ring == rings.end()) return;
  const auto port = ports.find(ring->second);
  if (port != ports.end()) shutdown(port->second.there, SHUT_RD);
  rings.erase(ring);
}

int ClearWhenUnshared(uint64_t handle, uint32_t byte) {
  const std::lock_guard<std::mutex> lock(mutex);
  shares.find(handle)->second.cleared = static_cast<int>(byte);
  return 0;
}
int RingWhenUnmapped(uint64_t handle, uint32_t port) {
  const std::lock_guard<std::mutex> lock(mutex);
  rings[handle] = port;
  return 0;
}

// As the local transport's doorbells: rung by shutdown(), heard as an edge.
int MakeBell() {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) abort();
  close(pair[1]);
  return pair[0];
}
void TakeEvents() {
  epoll_event event;
  while (epoll_wait(events, &event, 1, 0) == 1) pending.insert(event.data.u32);
}
int AddPort(const Port& port) {
  if (events < 0) events = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{EPOLLIN | EPOLLET, {}};
  event.data.u32 = next_port;
  epoll_ctl(events, EPOLL_CTL_ADD, port.heard, &event);
  TakeEvents();
  pending.erase(next_port);  // the edge that a registration begins with
  ports[next_port] = port;
  return static_cast<int>(next_port++);
}
int BindUnbound(uint32_t domid) {
  const std::lock_guard<std::mutex> lock(mutex);
  return AddPort(Port{domid, 0, MakeBell(), MakeBell()});
}
int BindInterdomain(uint32_t domid, uint32_t remote) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = ports.find(remote);
  if (found == ports.end() || PeerOf(found->second.domid) != domid || found->second.other != 0)
    return -EINVAL;
  found->second.other = next_port;
  return AddPort(Port{domid, remote, fcntl(found->second.there, F_DUPFD_CLOEXEC, 0),
                      fcntl(found->second.heard, F_DUPFD_CLOEXEC, 0)});
}
void Unbind(uint32_t port) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = ports.find(port);
  if (found == ports.end()) return;
  const auto other = ports.find(found->second.other);
  if (other != ports.end()) other->second.other = 0;
  close(found->second.heard);
  close(found->second.there);
  ports.erase(found);
}
int RingDescriptor(uint32_t port) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = ports.find(port);
  return found == ports.end() ? -1 : found->second.there;
}
int NextEvent() {
  const std::lock_guard<std::mutex> lock(mutex);
  TakeEvents();
  if (!pending.empty()) {
    const uint32_t port = *pending.begin();
    pending.erase(port);
    return static_cast<int>(port);
  }
  return -EAGAIN;
}
void Unmask(uint32_t) {}

constexpr XenCalls kFakeCalls{ShareFake,
                              UnshareFake,
                              MapFake,
                              UnmapFake,
                              ClearWhenUnshared,
                              RingWhenUnmapped,
                              BindUnbound,
                              BindInterdomain,
                              Unbind,
                              RingDescriptor,
                              [](int descriptor, uint32_t) { shutdown(descriptor, SHUT_RD); },
                              NextEvent,
                              Unmask};

}  // namespace

const XenCalls& FakeXenCalls() { return kFakeCalls; }
uint32_t FakePagesShared() {
  const std::lock_guard<std::mutex> lock(mutex);
  return static_cast<uint32_t>(grants.size());
}
uint32_t FakePagesMapped() {
  const std::lock_guard<std::mutex> lock(mutex);
  return mapped;
}
uint32_t FakePortsBound() {
  const std::lock_guard<std::mutex> lock(mutex);
  return static_cast<uint32_t>(ports.size());
}
int FakeHeard(const Doorbell& bell) {
  const std::lock_guard<std::mutex> lock(mutex);
  return ports.find(XenPortOf(bell))->second.heard;
}
void FakeCutOff(uint32_t domid) {
  const std::lock_guard<std::mutex> lock(mutex);
  const std::vector<char> ones(kPage, '\xff');
  for (const auto& [reference, grant] : grants) {
    if (grant.domid != domid) continue;
    if (pwrite(grant.fd, ones.data(), kPage, static_cast<off_t>(grant.offset)) != kPage) abort();
  }
}
void FailNextShare(int successes, int error) {
  const std::lock_guard<std::mutex> lock(mutex);
  share_countdown = successes;
  share_error = error;
}

const Transport& FakeXenTransport() {
  if (CurrentXenBudget().limit_pages != kFakeLimitPages)
    StartXenTransport(kFakeCalls, kFakeLimitPages);
  return XenTransport();
}

}  // namespace xenloop

// See fake_xen.h.
#include "tests/contract/fake_xen.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <mutex>
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
  std::vector<uint32_t> references;
};
struct Port {
  uint32_t domid;
  uint32_t other;  // 0: unbound
  int heard;       // eventfd that becomes readable here
  int there;       // the other end's
};

std::mutex mutex;
std::map<uint32_t, Granted> grants;
std::map<uint64_t, Share> shares;
std::map<uint32_t, Port> ports;
uint32_t next_reference = 100;
uint64_t next_handle = 1;
uint32_t next_port = 10;
uint32_t mapped = 0;
int share_countdown = -1;
int share_error = 0;

int ShareFake(uint32_t domid, uint32_t pages, bool writable, void* at, uint32_t* references,
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
    grants[references[i]] = Granted{fd, i * kPage, domid, writable};
  }
  return 0;
}

void UnshareFake(void* at, uint32_t pages, uint64_t handle) {
  const std::lock_guard<std::mutex> lock(mutex);
  mmap(at, pages * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  const auto found = shares.find(handle);
  for (const uint32_t reference : found->second.references) grants.erase(reference);
  close(found->second.fd);
  shares.erase(found);
}

int MapFake(uint32_t domid, const uint32_t* references, uint32_t pages, bool writable, void* at,
            uint64_t* handle) {
  const std::lock_guard<std::mutex> lock(mutex);
  for (uint32_t i = 0; i < pages; ++i) {
    const auto found = grants.find(references[i]);
    if (found == grants.end() || found->second.domid != domid) return -ENOENT;
    if (writable && !found->second.writable) return -EACCES;
  }
  for (uint32_t i = 0; i < pages; ++i) {
    const Granted& grant = grants.find(references[i])->second;
    if (mmap(static_cast<char*>(at) + i * kPage, kPage, PROT_READ | (writable ? PROT_WRITE : 0),
             MAP_SHARED | MAP_FIXED, grant.fd, static_cast<off_t>(grant.offset)) == MAP_FAILED)
      return -errno;
  }
  mapped += pages;
  *handle = pages;
  return 0;
}

void UnmapFake(void* at, uint32_t pages, uint64_t) {
  const std::lock_guard<std::mutex> lock(mutex);
  mmap(at, pages * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  mapped -= pages;
}

int BindUnbound(uint32_t domid) {
  const std::lock_guard<std::mutex> lock(mutex);
  ports[next_port] = Port{domid, 0, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
                          eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  return static_cast<int>(next_port++);
}
int BindInterdomain(uint32_t domid, uint32_t remote) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = ports.find(remote);
  if (found == ports.end() || found->second.domid != domid || found->second.other != 0)
    return -EINVAL;
  found->second.other = next_port;
  ports[next_port] = Port{domid, remote, fcntl(found->second.there, F_DUPFD_CLOEXEC, 0),
                          fcntl(found->second.heard, F_DUPFD_CLOEXEC, 0)};
  return static_cast<int>(next_port++);
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
  return ports.find(port)->second.there;
}
int NextEvent() {
  const std::lock_guard<std::mutex> lock(mutex);
  for (const auto& [number, port] : ports) {
    uint64_t count;
    if (read(port.heard, &count, sizeof count) == sizeof count) return static_cast<int>(number);
  }
  return -EAGAIN;
}
void Unmask(uint32_t) {}

constexpr XenCalls kFakeCalls{ShareFake,       UnshareFake, MapFake,        UnmapFake, BindUnbound,
                              BindInterdomain, Unbind,      RingDescriptor, 0,         NextEvent,
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
int FakeHeardDescriptor(uint32_t port) {
  const std::lock_guard<std::mutex> lock(mutex);
  return ports.find(port)->second.heard;
}
void FailNextShare(int successes, int error) {
  const std::lock_guard<std::mutex> lock(mutex);
  share_countdown = successes;
  share_error = error;
}

const Transport& FakeXenTransport() {
  if (CurrentXenBudget().limit_pages == 0) StartXenTransport(kFakeCalls, kFakeLimitPages);
  return XenTransport();
}

}  // namespace xenloop

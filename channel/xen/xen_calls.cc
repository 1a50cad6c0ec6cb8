// See xen_calls.h.
#include "channel/xen/xen_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

using domid_t = uint16_t;  // the next header expects it of the hypervisor's own
#include <xen/evtchn.h>
#include <xen/gntalloc.h>

#include "channel/base/descriptor.h"
#include "channel/base/sys.h"
#include "channel/base/time.h"
#include "channel/xen/xen_transport.h"

// linux/gntdev.h wants the hypervisor's own headers for a call that we do not make. Those that we
// make are these.
struct GntdevMap {
  uint32_t count;
  uint32_t pad;
  uint64_t index;
  struct {
    uint32_t domid;
    uint32_t reference;
  } references[1];
};
struct GntdevUnmap {
  uint64_t index;
  uint32_t count;
  uint32_t pad;
};

struct GntdevUnmapNotify {
  uint64_t index;  // an address in the descriptor's own space
  uint32_t action;
  uint32_t port;
};

namespace xenloop {

const char* const kXenDeviceNames[kXenDescriptors] = {"/dev/xen/gntalloc", "/dev/xen/gntdev",
                                                      "/dev/xen/evtchn"};

namespace {

constexpr long kPageBytes = 4096;
constexpr unsigned long kGntdevMap = _IOC(_IOC_NONE, 'G', 0, sizeof(GntdevMap));
constexpr unsigned long kGntdevUnmap = _IOC(_IOC_NONE, 'G', 1, sizeof(GntdevUnmap));
constexpr unsigned long kGntdevNotify = _IOC(_IOC_NONE, 'G', 7, sizeof(GntdevUnmapNotify));

int descriptors[kXenDescriptors] = {-1, -1, -1};
// A mapping made by an earlier descriptor, before this guest was suspended without notice, is not
// to be ended on this one, where its number may mean another. So handles say whose they are.
constexpr int kGenerationShift = 56;
uint64_t generation = 0;
bool IsOfNow(uint64_t handle) { return handle >> kGenerationShift == (generation & 0xff); }
uint64_t IndexOf(uint64_t handle) { return handle & ((1ull << kGenerationShift) - 1); }

long AsLong(const void* pointer) { return reinterpret_cast<long>(pointer); }

long Ioctl(int fd, unsigned long request, const void* argument) {
  return sys::Call(SYS_ioctl, fd, static_cast<long>(request), AsLong(argument));
}

// The kernel may have to bring a page of the other domain in first: it says EAGAIN.
int MapAt(void* at, uint32_t pages, Access access, int fd, uint64_t offset) {
  constexpr int kPatienceMs = 200;
  long result = -EAGAIN;
  for (int i = 0; i < kPatienceMs && result == -EAGAIN; ++i) {
    if (i > 0) Nap(kNsPerMs);
    result = sys::Call(SYS_mmap, AsLong(at), pages * kPageBytes,
                       access == Access::kWrite ? PROT_READ | PROT_WRITE : PROT_READ,
                       MAP_SHARED | MAP_FIXED, fd, static_cast<long>(offset));
  }
  return result < 0 && result > -kPageBytes ? static_cast<int>(result) : 0;
}

// Leaves a hole behind and not a gap that somebody else's mapping could take.
void UnmapAt(void* at, uint32_t pages) {
  sys::Call(SYS_mmap, AsLong(at), pages * kPageBytes, PROT_NONE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

int Share(uint32_t domid, uint32_t pages, Access access, void* at, uint32_t* references,
          uint64_t* handle) {
  alignas(ioctl_gntalloc_alloc_gref)
      uint8_t space[sizeof(ioctl_gntalloc_alloc_gref) + kMaxXenFifoPages * sizeof(uint32_t)];
  if (pages == 0 || pages > kMaxXenFifoPages || domid > UINT16_MAX) return -EINVAL;
  auto* request = reinterpret_cast<ioctl_gntalloc_alloc_gref*>(space);
  request->domid = static_cast<uint16_t>(domid);
  request->flags = access == Access::kWrite ? GNTALLOC_FLAG_WRITABLE : 0;
  request->count = pages;
  const long result = Ioctl(descriptors[kGntalloc], IOCTL_GNTALLOC_ALLOC_GREF, request);
  if (result < 0) return static_cast<int>(result);
  memcpy(references, request->gref_ids, pages * sizeof(uint32_t));
  *handle = request->index;
  // Ours to write, whatever the other domain may do.
  const int error = MapAt(at, pages, Access::kWrite, descriptors[kGntalloc], request->index);
  if (error != 0) {
    const ioctl_gntalloc_dealloc_gref release{*handle, pages};
    Ioctl(descriptors[kGntalloc], IOCTL_GNTALLOC_DEALLOC_GREF, &release);
    return error;
  }
  return 0;
}

void Unshare(void* at, uint32_t pages, uint64_t handle) {
  const ioctl_gntalloc_dealloc_gref release{handle, pages};
  Ioctl(descriptors[kGntalloc], IOCTL_GNTALLOC_DEALLOC_GREF, &release);
  UnmapAt(at, pages);
}

int Map(uint32_t domid, const uint32_t* references, uint32_t pages, Access access, void* at,
        uint64_t* handle) {
  alignas(GntdevMap) uint8_t space[sizeof(GntdevMap) + kMaxXenFifoPages * 2 * sizeof(uint32_t)];
  if (pages == 0 || pages > kMaxXenFifoPages) return -EINVAL;
  auto* request = reinterpret_cast<GntdevMap*>(space);
  request->count = pages;
  request->pad = 0;
  request->index = 0;
  for (uint32_t i = 0; i < pages; ++i) {
    request->references[i].domid = domid;
    request->references[i].reference = references[i];
  }
  const long result = Ioctl(descriptors[kGntdev], kGntdevMap, request);
  if (result < 0) return static_cast<int>(result);
  *handle = request->index | generation << kGenerationShift;
  const int error = MapAt(at, pages, access, descriptors[kGntdev], request->index);
  if (error != 0) {
    const GntdevUnmap release{request->index, pages, 0};
    Ioctl(descriptors[kGntdev], kGntdevUnmap, &release);
    UnmapAt(at, pages);
    return error;
  }
  // In a PV guest the kernel gives a child no such mapping; have it so everywhere.
  sys::Call(SYS_madvise, AsLong(at), pages * kPageBytes, MADV_DONTFORK);
  return 0;
}

void Unmap(void* at, uint32_t pages, uint64_t handle) {
  UnmapAt(at, pages);
  if (!IsOfNow(handle)) return;
  const GntdevUnmap release{IndexOf(handle), pages, 0};
  Ioctl(descriptors[kGntdev], kGntdevUnmap, &release);
}

int ClearWhenUnshared(uint64_t handle, uint32_t byte) {
  const ioctl_gntalloc_unmap_notify request{handle + byte, UNMAP_NOTIFY_CLEAR_BYTE, 0};
  return static_cast<int>(Ioctl(descriptors[kGntalloc], IOCTL_GNTALLOC_SET_UNMAP_NOTIFY, &request));
}
int RingWhenUnmapped(uint64_t handle, uint32_t port) {
  const GntdevUnmapNotify request{IndexOf(handle), UNMAP_NOTIFY_SEND_EVENT, port};
  return static_cast<int>(Ioctl(descriptors[kGntdev], kGntdevNotify, &request));
}

int BindUnbound(uint32_t domid) {
  const ioctl_evtchn_bind_unbound_port request{domid};
  return static_cast<int>(Ioctl(descriptors[kEvtchn], IOCTL_EVTCHN_BIND_UNBOUND_PORT, &request));
}
int BindInterdomain(uint32_t domid, uint32_t remote_port) {
  const ioctl_evtchn_bind_interdomain request{domid, remote_port};
  return static_cast<int>(Ioctl(descriptors[kEvtchn], IOCTL_EVTCHN_BIND_INTERDOMAIN, &request));
}
void Unbind(uint32_t port) {
  const ioctl_evtchn_unbind request{port};
  Ioctl(descriptors[kEvtchn], IOCTL_EVTCHN_UNBIND, &request);
}
int RingDescriptor(uint32_t) { return descriptors[kEvtchn]; }
void Ring(int descriptor, uint32_t port) { Ioctl(descriptor, IOCTL_EVTCHN_NOTIFY, &port); }

int NextEvent() {
  uint32_t port = 0;
  const ssize_t n = sys::Read(descriptors[kEvtchn], &port, sizeof port);
  return n == sizeof port ? static_cast<int>(port) : n < 0 ? static_cast<int>(n) : -EAGAIN;
}
void Unmask(uint32_t port) { sys::Write(descriptors[kEvtchn], &port, sizeof port); }

constexpr XenCalls kKernelCalls{Share,
                                Unshare,
                                Map,
                                Unmap,
                                ClearWhenUnshared,
                                RingWhenUnmapped,
                                BindUnbound,
                                BindInterdomain,
                                Unbind,
                                RingDescriptor,
                                Ring,
                                NextEvent,
                                Unmask};

ssize_t ReadFile(const char* path, char* text, size_t capacity) {
  const long fd =
      sys::MakeDescriptor(SYS_openat, AT_FDCWD, reinterpret_cast<long>(path), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fd;
  const ssize_t n = sys::Read(static_cast<int>(fd), text, capacity - 1);
  sys::Close(static_cast<int>(fd));
  text[n < 0 ? 0 : n] = '\0';
  return n;
}

}  // namespace

const XenCalls& KernelXenCalls() { return kKernelCalls; }

void UseXenDescriptors(const int (&fds)[kXenDescriptors]) {
  if (fds[kGntdev] != descriptors[kGntdev]) ++generation;
  for (int i = 0; i < kXenDescriptors; ++i) descriptors[i] = fds[i];
}

bool RunsOnXen() {
  char text[16];
  return ReadFile("/sys/hypervisor/type", text, sizeof text) >= 3 && memcmp(text, "xen", 3) == 0;
}

uint32_t GrantLimitPages() {
  char text[16];
  uint32_t limit = 0;
  if (ReadFile("/sys/module/xen_gntalloc/parameters/limit", text, sizeof text) <= 0) return 0;
  for (const char* c = text; *c >= '0' && *c <= '9' && limit < (1u << 26); ++c)
    limit = limit * 10 + static_cast<uint32_t>(*c - '0');
  return limit;
}

}  // namespace xenloop

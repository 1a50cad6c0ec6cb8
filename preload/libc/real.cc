// Finds the real functions: all of them when the library is loaded, one of them when a call comes
// earlier than that. What this libc does not have is a system call, where it is no more than one.
#include "preload/libc/real.h"

#include <errno.h>
#include <link.h>
#include <stdint.h>

#include "channel/base/sys.h"
#include "preload/libc/errno.h"
#include "preload/libc/symbols.h"

namespace xenloop::real {

void* table[kCount];

long Unavailable() { return ReturnToLibc(-ENOSYS); }

namespace {

const char* const kNames[] = {
#define INTERPOSE(name) #name,
#define ALIAS(name, function)
#include "preload/libc/interposed_functions.def"
#undef INTERPOSE
#undef ALIAS
};
static_assert(sizeof(kNames) / sizeof(kNames[0]) == kCount, "one name for each index");

// Both calling conventions hand over integers and pointers in the same registers whatever the
// prototype says, so one shape serves every function whose arguments are those of its system call.
template <long kNumber>
long Bare(long a, long b, long c, long d, long e, long f) {
  return ReturnToLibc(sys::Call(kNumber, a, b, c, d, e, f));
}
// recv and send are recvfrom and sendto without an address.
template <long kNumber>
long BareWithoutAddress(long a, long b, long c, long d) {
  return ReturnToLibc(sys::Call(kNumber, a, b, c, d, 0, 0));
}
long BareSyscallFunction(long number, long a, long b, long c, long d, long e, long f) {
  return ReturnToLibc(sys::Call(number, a, b, c, d, e, f));
}
template <class Result, class... Arguments>
void* Address(Result (*function)(Arguments...)) {
  return reinterpret_cast<void*>(function);
}

void* WithoutLibc(Index index) {
  switch (index) {
#define BARE(name) \
  case k_##name:   \
    return Address(Bare<SYS_##name>)
    BARE(read);
    BARE(readv);
    BARE(recvfrom);
    BARE(recvmsg);
    BARE(write);
    BARE(writev);
    BARE(sendto);
    BARE(sendmsg);
    BARE(socket);
    BARE(connect);
    BARE(listen);
    BARE(accept);
    BARE(accept4);
    BARE(shutdown);
    BARE(getsockopt);
    BARE(setsockopt);
    BARE(ioctl);
    BARE(fcntl);
    BARE(close);
    BARE(close_range);
    BARE(dup);
    BARE(dup3);
    BARE(epoll_create1);
    BARE(epoll_ctl);
    BARE(openat);
    BARE(pipe2);
    BARE(socketpair);
    BARE(memfd_create);
    BARE(pidfd_open);
    BARE(pidfd_getfd);
    BARE(execve);
#ifdef SYS_poll
    BARE(open);
    BARE(creat);
    BARE(pipe);
    BARE(poll);
    BARE(dup2);
    BARE(epoll_wait);
#endif
#undef BARE
    case k__exit:
      return Address(Bare<SYS_exit_group>);
    case k_recv:
      return Address(BareWithoutAddress<SYS_recvfrom>);
    case k_send:
      return Address(BareWithoutAddress<SYS_sendto>);
    case k_syscall:
      return Address(BareSyscallFunction);
    default:
      return nullptr;
  }
}

struct Extent {
  uintptr_t first, end;
  bool Holds(const void* address) const {
    const auto at = reinterpret_cast<uintptr_t>(address);
    return at >= first && at < end;
  }
};
// Ours, and those behind us. Written once, before there is a second thread.
constexpr int kMostPreloads = 16;
Extent preloads[kMostPreloads];
int preload_count = 0;
// The same, and libc, which may be more than one object.
Extent callers[kMostPreloads];
int caller_count = 0;

int NotePreload(dl_phdr_info* object, size_t, void* libc) {
  Extent extent{UINTPTR_MAX, 0};
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& part = object->dlpi_phdr[i];
    if (part.p_type != PT_LOAD) continue;
    const uintptr_t first = object->dlpi_addr + part.p_vaddr;
    if (first < extent.first) extent.first = first;
    if (first + part.p_memsz > extent.end) extent.end = first + part.p_memsz;
  }
  bool defines = extent.Holds(libc) || extent.Holds(Address(&NotePreload));
  for (int index = 0; index < kCount && !defines; ++index) defines = extent.Holds(table[index]);
  if (defines && caller_count < kMostPreloads) callers[caller_count++] = extent;
  if (extent.Holds(libc)) return 0;
  if (defines && preload_count < kMostPreloads) preloads[preload_count++] = extent;
  return 0;
}

__attribute__((constructor(101))) void ResolveAll() {
  for (int index = 0; index < kCount; ++index) {
    if (table[index] == nullptr) Resolve(static_cast<Index>(index));
  }
  dl_iterate_phdr(NotePreload, NextDefinition("gnu_get_libc_version"));
}

}  // namespace

bool IsFromNextPreload(const void* address) {
  for (int i = 0; i < preload_count; ++i) {
    if (preloads[i].Holds(address)) return true;
  }
  return false;
}

bool IsWhereCallsAreSeen(const void* address) {
  for (int i = 0; i < caller_count; ++i) {
    if (callers[i].Holds(address)) return true;
  }
  return caller_count == 0;
}

void* Resolve(Index index) {
  void* found = NextDefinition(kNames[index]);
  if (found == nullptr) found = WithoutLibc(index);
  if (found == nullptr) found = Address(Unavailable);
  __atomic_store_n(&table[index], found, __ATOMIC_RELAXED);
  return found;
}

bool LibcIsGlibc() { return NextDefinition("gnu_get_libc_version") != nullptr; }

}  // namespace xenloop::real

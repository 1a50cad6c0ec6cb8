// real::name(...) is the next definition of `name` after ours: libc's, or that of another preloaded
// library. It works at any time, also before initialisation: what is not yet resolved is looked up
// by the call that needs it.
#pragma once

#include <aio.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

// What _FORTIFY_SOURCE makes callers call; no header declares these without it.
extern "C" {
ssize_t __read_chk(int fd, void* buffer, size_t length, size_t buffer_size);
ssize_t __recv_chk(int fd, void* buffer, size_t length, size_t buffer_size, int flags);
ssize_t __recvfrom_chk(int fd, void* buffer, size_t length, size_t buffer_size, int flags,
                       sockaddr* address, socklen_t* address_length);
int __poll_chk(pollfd* fds, nfds_t count, int timeout_ms, size_t fds_size);
int __ppoll_chk(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask,
                size_t fds_size);
int __dprintf_chk(int fd, int flag, const char* format, ...);
int __vdprintf_chk(int fd, int flag, const char* format, va_list arguments);
int capset(void* header, const void* data) noexcept;
__sighandler_t __sysv_signal(int signal, __sighandler_t handler) noexcept;
int __open_2(const char* path, int flags);
int __openat_2(int directory, const char* path, int flags);
[[noreturn]] void __longjmp_chk(jmp_buf target, int value) noexcept;
// What the libc of the machine that builds this may not have yet.
int pidfd_spawn(int* pidfd, const char* path, const posix_spawn_file_actions_t* actions,
                const posix_spawnattr_t* attributes, char* const argv[], char* const environment[]);
int pidfd_spawnp(int* pidfd, const char* file, const posix_spawn_file_actions_t* actions,
                 const posix_spawnattr_t* attributes, char* const argv[],
                 char* const environment[]);
int pidfd_open(pid_t process, unsigned flags) noexcept;
int pidfd_getfd(int pidfd, int fd, unsigned flags) noexcept;
}

namespace xenloop::real {

enum Index : int {
#define INTERPOSE(name) k_##name,
#define ALIAS(name, function)
#include "preload/libc/interposed_functions.def"
#undef INTERPOSE
#undef ALIAS
  kCount
};

// Zero: not yet resolved. Written with one and the same value by whoever comes first, so any thread
// may.
extern void* table[kCount];

// What stands in the table for a function that libc does not have.
long Unavailable();

// Looks `index` up. Never fails: what libc does not have answers ENOSYS.
void* Resolve(Index index);

// Whether the code at `address` belongs to a preloaded library behind ours that defines one of the
// functions, or to ours: the former may have tail-called on our behalf.
bool IsFromNextPreload(const void* address);
// Whether that is code of libc, of ours or of such a library: system calls made there are made for
// a function that we define, or by us.
bool IsWhereCallsAreSeen(const void* address);
// Only glibc is known well enough to be followed: of another libc, calls are passed through.
bool LibcIsGlibc();

template <Index kIndex, class Pointer>
struct Function {
  Pointer Get() const {
    void* found = __atomic_load_n(&table[kIndex], __ATOMIC_RELAXED);
    if (__builtin_expect(found == nullptr, 0)) found = Resolve(kIndex);
    return reinterpret_cast<Pointer>(found);
  }
  bool IsAvailable() const {
    return reinterpret_cast<void*>(Get()) != reinterpret_cast<void*>(&Unavailable);
  }
  bool IsFromNextPreload() const {
    return real::IsFromNextPreload(reinterpret_cast<const void*>(Get()));
  }
  template <class... Arguments>
  auto operator()(Arguments... arguments) const {
    struct NoTailCall {  // a library behind us that comes back by syscall() shall find its caller
      ~NoTailCall() { __asm__ volatile(""); }
    } const no_tail_call;
    return Get()(arguments...);
  }
};

// The headers' hints to the optimiser (nothrow, nonnull) are no part of a type, and get lost as
// they should.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
// NOLINTNEXTLINE(bugprone-macro-parentheses): a name is no expression
#define INTERPOSE(name) inline constexpr Function<k_##name, decltype(&::name)> name{};
#define ALIAS(name, function)
#include "preload/libc/interposed_functions.def"
#undef INTERPOSE
#undef ALIAS
#pragma GCC diagnostic pop

}  // namespace xenloop::real

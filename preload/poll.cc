// poll, ppoll, select, pselect: the kernel answers for every descriptor, the FIFO's part is added,
// and while the thread sleeps the doorbell is one descriptor more. Threads that wait for sockets on
// TCP are counted as kernel users, so that no direction is upgraded beneath them.
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include "preload/agent.h"
#include "preload/agent_state.h"
#include "preload/config.h"
#include "preload/epoll.h"
#include "preload/fd_table.h"
#include "preload/init.h"
#include "preload/readiness.h"
#include "preload/real.h"
#include "preload/socket.h"
#include "preload/wait.h"

namespace xenloop {
namespace {

constexpr short kRead = POLLIN | POLLRDNORM;
constexpr short kWrite = POLLOUT | POLLWRNORM;
constexpr nfds_t kOnStack = 256;
constexpr timespec kNow{0, 0};

// An epoll descriptor that holds the doorbell edge-triggered: each sleeping thread has its own, so
// none can swallow another's wake-up. Lent from a small pool for the time of a sleep.
struct SleeperBell {
  std::atomic<uint32_t> lent;
  int epfd;  // 0: not made yet
  int bell_fd;
};
SleeperBell bells[64];

class LentBell : public Abandonable {
 public:
  LentBell() {
    const int doorbell = OwnDoorbellFd();
    if (doorbell < 0) return;
    for (SleeperBell& bell : bells) {
      uint32_t expected = 0;
      if (bell.lent.load(std::memory_order_relaxed) != 0 ||
          !bell.lent.compare_exchange_strong(expected, 1, std::memory_order_acquire)) {
        continue;
      }
      bell_ = &bell;
      Enter(&GiveBack);
      if (bell.epfd > 0 && bell.bell_fd == doorbell && FdTable::IsPrivate(bell.epfd)) return;
      const int fd =
          MakePrivate(static_cast<int>(sys::MakeDescriptor(SYS_epoll_create1, EPOLL_CLOEXEC)));
      epoll_event event{};
      event.events = EPOLLIN | EPOLLET;
      if (fd >= 0)
        sys::Call(SYS_epoll_ctl, fd, EPOLL_CTL_ADD, doorbell, reinterpret_cast<long>(&event));
      bell.epfd = fd;
      bell.bell_fd = doorbell;
      return;
    }
  }
  ~LentBell() {
    if (bell_ == nullptr) return;
    Leave();
    GiveBack(this);
  }
  int fd() const { return bell_ != nullptr && bell_->epfd > 0 ? bell_->epfd : -1; }
  void Swallow() const {
    epoll_event event;
    sys::Call(SYS_epoll_pwait, fd(), reinterpret_cast<long>(&event), 1, 0, 0, 8);
  }

 private:
  static void GiveBack(Abandonable* scope) {
    static_cast<LentBell*>(scope)->bell_->lent.store(0, std::memory_order_release);
  }
  SleeperBell* bell_ = nullptr;
};

// Scratch for a call: on the stack for ordinary sets, mapped for giants.
template <typename T>
class Scratch {
 public:
  Scratch(T* stack, nfds_t count) : memory_(stack) {
    if (count <= kOnStack + 1) return;
    bytes_ = count * sizeof(T);
    const long mapped = sys::Call(SYS_mmap, 0, static_cast<long>(bytes_), PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memory_ = mapped < 0 && mapped > -4096 ? nullptr : reinterpret_cast<T*>(mapped);
    mapped_ = memory_ != nullptr;
  }
  ~Scratch() {
    if (mapped_) sys::Call(SYS_munmap, reinterpret_cast<long>(memory_), static_cast<long>(bytes_));
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* get() const { return memory_; }

 private:
  T* memory_;
  size_t bytes_ = 0;
  bool mapped_ = false;
};

int KernelPoll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  const int saved = errno;
  const int ready = Cancellable([=] { return real::ppoll(fds, count, timeout, mask); });
  if (ready >= 0) return ready;
  const int error = errno;
  errno = saved;
  return -error;
}

// One call's view of its descriptors.
struct Waited : Abandonable {
  Waited(pollfd* programs, pollfd* asked, Side** sides, nfds_t n)
      : fds(programs), kernel(asked), counted(sides), count(n) {}

  pollfd* const fds;     // the program's
  pollfd* const kernel;  // what we ask the kernel; one entry more for the bell
  Side** const counted;  // sides in whose receive direction this thread counts as a kernel user;
                         // null elsewhere
  const nfds_t count;
  bool accelerated = false;  // at least one side is not on TCP

  void EnterKernel(Self self) {
    accelerated = false;
    for (nfds_t i = 0; i < count; ++i) counted[i] = nullptr;
    Enter(&GiveBack);
    for (nfds_t i = 0; i < count; ++i) {
      kernel[i] = pollfd{fds[i].fd, fds[i].events, 0};
      Side* side = FindSide(fds[i].fd);
      if (side == nullptr) continue;
      if (side->receive.EnterKernel(self)) counted[i] = side;
      const bool room_is_ours =
          SendStream::HoldsRoom(side->send.route.load(std::memory_order_relaxed));
      if (counted[i] == nullptr || room_is_ours) accelerated = true;
      if (room_is_ours) {
        kernel[i].events = static_cast<short>(fds[i].events & ~kWrite);
      }
    }
  }
  void LeaveKernel(Self self) {
    for (nfds_t i = 0; i < count; ++i) {
      Side* const side = counted[i];
      counted[i] = nullptr;
      if (side != nullptr) side->receive.LeaveKernel(self);
    }
    Leave();
  }
  // The kernel's answer in fds[].revents came at a moment that a doorbell has chosen.
  void Complete() {
    for (nfds_t i = 0; i < count; ++i) {
      if (fds[i].revents != 0 && counted[i] != nullptr)
        fds[i].revents =
            static_cast<short>(fds[i].revents | KernelEvents(fds[i].fd, counted[i], fds[i].events));
    }
  }
  // Fills fds[].revents from the kernel's answer and the FIFOs; how many are ready.
  int Evaluate(Self self) {
    int ready = 0;
    for (nfds_t i = 0; i < count; ++i) {
      short found = kernel[i].revents;
      Side* side = FindSide(fds[i].fd);
      if (side != nullptr && (found & POLLNVAL) == 0) {
        if (found != 0)
          found = static_cast<short>(found | KernelEvents(fds[i].fd, side, kernel[i].events));
        const bool want_room = (fds[i].events & kWrite) != 0 && (kernel[i].events & kWrite) == 0;
        const FifoReadiness fifo = ReadinessOf(fds[i].fd, side, want_room, self);
        if (fifo.in) found = static_cast<short>(found | (fds[i].events & kRead));
        if (want_room && (fifo.out || (fifo.out_from_kernel && KernelWritable(fds[i].fd)))) {
          found = static_cast<short>(found | (fds[i].events & kWrite));
        }
      }
      fds[i].revents = found;
      if (found != 0) ++ready;
    }
    return ready;
  }

 private:
  static void GiveBack(Abandonable* scope) {
    const auto* const self = static_cast<Waited*>(scope);
    for (nfds_t i = 0; i < self->count; ++i) {
      if (self->counted[i] != nullptr) self->counted[i]->receive.kernel_users.Leave();
    }
  }
};

}  // namespace

void PollForkedChild() {
  for (SleeperBell& bell : bells) {
    if (bell.epfd > 0) ClosePrivate(bell.epfd);
    bell.epfd = 0;
    bell.lent.store(0, std::memory_order_relaxed);
  }
}

bool PollConcernsUs(const pollfd* fds, nfds_t count) {
  if (!process_state.ready || fds == nullptr || count > 1 << 20) return false;
  bool concerns = false;
  for (nfds_t i = 0; i < count; ++i) {
    concerns = concerns || FindSide(fds[i].fd) != nullptr;
    if (EpollSet* set = FindEpollSet(fds[i].fd)) EpollSetIsWatched(set);
  }
  return concerns;
}

int Poll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  pthread_testcancel();  // these calls are cancellation points even when they need not wait
  if (timeout != nullptr &&
      (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec > 999999999)) {
    return KernelPoll(fds, count, timeout, mask);
  }
  pollfd stack_fds[kOnStack + 2];
  Side* stack_sides[kOnStack + 1];
  const Scratch<pollfd> kernel(stack_fds, count + 1);
  const Scratch<Side*> counted(stack_sides, count);
  if (kernel.get() == nullptr || counted.get() == nullptr) return -ENOMEM;
  Waited waited(fds, kernel.get(), counted.get(), count);
  const Self self = CurrentSelf();
  const bool for_ever = timeout == nullptr;
  const uint64_t start = for_ever ? 0 : sys::MonotonicNs();
  const uint64_t length = for_ever ? 0
                                   : static_cast<uint64_t>(timeout->tv_sec) * 1000000000u +
                                         static_cast<uint64_t>(timeout->tv_nsec);
  bool may_spin = true;
  for (bool woken = false;; woken = true) {
    waited.EnterKernel(self);
    if (!waited.accelerated) {
      const int ready = KernelPoll(fds, count, timeout, mask);
      if (woken && ready > 0) waited.Complete();
      waited.LeaveKernel(self);
      return ready;
    }
    timespec left = kNow;
    if (!for_ever) {
      const uint64_t spent = sys::MonotonicNs() - start;
      const uint64_t rest = spent < length ? length - spent : 0;
      left.tv_sec = static_cast<time_t>(rest / 1000000000u);
      left.tv_nsec = static_cast<long>(rest % 1000000000u);
    }
    const bool can_wait = for_ever || left.tv_sec != 0 || left.tv_nsec != 0;
    int answer = KernelPoll(waited.kernel, count, &kNow, nullptr);
    int ready = answer < 0 ? answer : waited.Evaluate(self);
    if (ready == 0 && can_wait && may_spin && GetConfig().spin_us != 0) {
      may_spin = false;
      const uint32_t budget = SharedSpinBudgetUs();
      uint64_t spin_start = 0;
      uint32_t turns = 0;
      while (ready == 0 && budget != 0 && SpinTurn(&spin_start, budget, &turns, SharedSpinYields()))
        ready = waited.Evaluate(self);
      SharedSpinEnded(ready != 0);
    }
    if (ready != 0 || !can_wait) {
      waited.LeaveKernel(self);
      return ready;
    }
    {
      const LentBell bell;
      const SleeperCount sleeper;
      ready = waited.Evaluate(self);  // once more, now that the doorbell rings for us
      if (ready == 0) {
        waited.kernel[count] = pollfd{bell.fd(), POLLIN, 0};
        // Without a bell (no descriptor left) look at the FIFOs every millisecond: slow, but it
        // ends.
        timespec nap{0, 1000000};
        const bool whole =
            bell.fd() >= 0 || (!for_ever && left.tv_sec == 0 && left.tv_nsec < nap.tv_nsec);
        answer =
            KernelPoll(waited.kernel, count + 1, whole ? (for_ever ? nullptr : &left) : &nap, mask);
        if (waited.kernel[count].revents != 0) bell.Swallow();
        ready = answer < 0 ? answer : waited.Evaluate(self);
      }
    }
    waited.LeaveKernel(self);
    if (ready != 0) return ready;
  }
}

// ---- select ----

namespace {
constexpr short kSelectRead = POLLIN | POLLRDNORM | POLLRDBAND;
constexpr short kSelectWrite = POLLOUT | POLLWRNORM | POLLWRBAND;

bool Has(const fd_set* set, int fd) {
  // The program's set may be larger than FD_SETSIZE; index its words ourselves.
  const auto* words = reinterpret_cast<const unsigned long*>(set);
  return set != nullptr && ((words[fd / 64] >> (fd % 64)) & 1) != 0;
}
void Put(fd_set* set, int fd) {
  reinterpret_cast<unsigned long*>(set)[fd / 64] |= 1ul << (fd % 64);
}
void Wipe(fd_set* set, int count) {
  if (set != nullptr) memset(set, 0, static_cast<size_t>((count + 63) / 64) * 8);
}
}  // namespace

bool SelectConcernsUs(int count, const fd_set* read, const fd_set* write, const fd_set* except) {
  if (!process_state.ready || count < 0 || count > FdTable::kMaxFds) return false;
  bool concerns = false;
  for (int fd = 0; fd < count; ++fd) {
    if (!Has(read, fd) && !Has(write, fd) && !Has(except, fd)) continue;
    concerns = concerns || FindSide(fd) != nullptr;
    if (EpollSet* set = FindEpollSet(fd)) EpollSetIsWatched(set);
  }
  return concerns;
}

int Select(int count, fd_set* read, fd_set* write, fd_set* except, const timespec* timeout,
           timespec* remaining, const sigset_t* mask) {
  const uint64_t start = sys::MonotonicNs();
  nfds_t n = 0;
  for (int fd = 0; fd < count; ++fd)
    n += Has(read, fd) || Has(write, fd) || Has(except, fd) ? 1 : 0;
  pollfd stack_fds[kOnStack + 1];
  const Scratch<pollfd> scratch(stack_fds, n);
  if (scratch.get() == nullptr) return -ENOMEM;
  pollfd* fds = scratch.get();
  n = 0;
  for (int fd = 0; fd < count; ++fd) {
    const short events =
        static_cast<short>((Has(read, fd) ? kSelectRead : 0) | (Has(write, fd) ? kSelectWrite : 0) |
                           (Has(except, fd) ? POLLPRI : 0));
    if (events != 0) fds[n++] = pollfd{fd, events, 0};
  }
  int result = Poll(fds, n, timeout, mask);
  for (nfds_t i = 0; result > 0 && i < n; ++i) {
    if ((fds[i].revents & POLLNVAL) != 0) result = -EBADF;
  }
  if (remaining != nullptr && timeout != nullptr) {
    const uint64_t length = static_cast<uint64_t>(timeout->tv_sec) * 1000000000u +
                            static_cast<uint64_t>(timeout->tv_nsec);
    const uint64_t spent = sys::MonotonicNs() - start;
    const uint64_t rest = spent < length ? length - spent : 0;
    remaining->tv_sec = static_cast<time_t>(rest / 1000000000u);
    remaining->tv_nsec = static_cast<long>(rest % 1000000000u);
  }
  if (result < 0) return result;
  Wipe(read, count);
  Wipe(write, count);
  Wipe(except, count);
  int bits = 0;
  for (nfds_t i = 0; i < n; ++i) {
    const short found = fds[i].revents;
    if ((fds[i].events & POLLIN) != 0 && (found & (kSelectRead | POLLHUP | POLLERR)) != 0) {
      Put(read, fds[i].fd);
      ++bits;
    }
    if ((fds[i].events & POLLOUT) != 0 && (found & (kSelectWrite | POLLERR)) != 0) {
      Put(write, fds[i].fd);
      ++bits;
    }
    if ((fds[i].events & POLLPRI) != 0 && (found & POLLPRI) != 0) {
      Put(except, fds[i].fd);
      ++bits;
    }
  }
  return bits;
}

}  // namespace xenloop

// poll, ppoll, select, pselect: the kernel answers for every descriptor, the FIFO's part is added,
// and while the thread sleeps the doorbell is one descriptor more. Who waits for one connection
// sleeps on its FIFO's word instead, and is woken with nobody else. Threads that wait for sockets
// on TCP are counted as kernel users, so that no direction is upgraded beneath them.
#include "preload/ready/poll.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include <utility>

#include "preload/libc/errno.h"
#include "preload/libc/program_memory.h"
#include "preload/libc/real.h"
#include "preload/libc/threads.h"
#include "preload/ready/epoll.h"
#include "preload/ready/kernel_wait.h"
#include "preload/ready/lent_bell.h"
#include "preload/ready/readiness.h"
#include "preload/ready/scratch.h"
#include "preload/settings/config.h"
#include "preload/side/bells.h"
#include "preload/side/borrowed.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/mailbox.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/parked.h"
#include "preload/side/self.h"
#include "preload/side/wait.h"

namespace xenloop {
namespace {

constexpr short kRead = POLLIN | POLLRDNORM;
constexpr short kWrite = POLLOUT | POLLWRNORM;
constexpr timespec kNow{0, 0};
// A side in whose receive direction this thread counts as a kernel user, or a set in which it
// counts as one that does not look at FIFOs; or neither. Both are aligned, so that there is room
// for a tag.
class Counted {
 public:
  void In(Side* side) { word_ = reinterpret_cast<uintptr_t>(side); }
  void In(EpollSet* set) { word_ = reinterpret_cast<uintptr_t>(set) | 1; }
  void Nowhere() { word_ = 0; }
  Side* side() const { return (word_ & 1) == 0 ? reinterpret_cast<Side*>(word_) : nullptr; }
  EpollSet* set() const {
    return (word_ & 1) != 0 ? reinterpret_cast<EpollSet*>(word_ & ~uintptr_t{1}) : nullptr;
  }

 private:
  uintptr_t word_;
};

// One call's view of its descriptors.
struct Waited : Abandonable {
  Waited(pollfd* programs, pollfd* asked, Counted* sides, nfds_t n)
      : fds(programs), kernel(asked), counted(sides), count(n) {}

  pollfd* const fds;     // the program's
  pollfd* const kernel;  // what we ask the kernel; one entry more for the bell
  Counted* const counted;
  const nfds_t count;
  bool accelerated = false;  // at least one side is not on TCP

  void EnterKernel(Self self) {
    accelerated = false;
    for (nfds_t i = 0; i < count; ++i) counted[i].Nowhere();
    Enter(&GiveBack);
    for (nfds_t i = 0; i < count; ++i) {
      kernel[i] = pollfd{fds[i].fd, fds[i].events, 0};
      if (EpollSet* const set = FindEpollSet(fds[i].fd)) EnterSet(i, set);
      Side* side = FindSide(fds[i].fd);
      if (side == nullptr) continue;
      MindWhatIsOwed(side);
      if (side->receive.EnterKernel(self)) counted[i].In(side);
      const bool room_is_ours =
          SendStream::HoldsRoom(side->send.route.load(std::memory_order_relaxed));
      if (GetConfig().park &&
          (side->options_set.load(std::memory_order_relaxed) & kSeenInPoll) == 0)
        side->options_set.fetch_or(kSeenInPoll, std::memory_order_relaxed);
      // seq_cst: behind our count; pairs with who publishes the listener.
      const bool has_queue = side->queue.load(std::memory_order_seq_cst) != 0 &&
                             QueueOf(side) != nullptr && OwnDoorbellFd() >= 0;
      // A flush has met the error, and so taken it from the kernel (KernelEvents).
      const bool error_is_ours = side->send.pending_error.load(std::memory_order_relaxed) != 0;
      if (counted[i].side() == nullptr || room_is_ours || has_queue || error_is_ours)
        accelerated = true;
      if (room_is_ours) {
        kernel[i].events = static_cast<short>(fds[i].events & ~kWrite);
      }
    }
  }
  void LeaveKernel(Self self) {
    for (nfds_t i = 0; i < count; ++i) {
      const Counted was = counted[i];
      counted[i].Nowhere();
      if (was.side() != nullptr) was.side()->receive.LeaveKernel(self);
      if (was.set() != nullptr) was.set()->plain_polls.fetch_sub(1, std::memory_order_release);
    }
    Leave();
  }
  // One of them is on FIFOs that another process has attached, and rings that one's doorbell,
  // which is not ours to hear.
  bool HearsNoDoorbell() const {
    for (nfds_t i = 0; i < count; ++i) {
      Side* const side = FindSide(fds[i].fd);
      if (side != nullptr && IsOnFifo(side) && !MayUseFifos(side)) return true;
    }
    return false;
  }
  // Their FIFOs ring that bell from now on, by which we sleep, or the common one.
  void NameBells(uint32_t bell, Self self) const {
    for (nfds_t i = 0; i < count; ++i) {
      Side* const side = FindSide(fds[i].fd);
      if (side != nullptr && IsOurs(side)) BellForPoll(side, bell, self);
    }
  }
  // For good: a program that has so many threads asleep will have them again.
  void LeaveFifos() {
    for (nfds_t i = 0; i < count; ++i) {
      Side* const side = FindSide(fds[i].fd);
      if (side == nullptr) continue;
      side->pinned.store(1, std::memory_order_relaxed);
      FallBack(fds[i].fd, side, Reason::kAgentNoDescriptors);
    }
  }
  // A doorbell has chosen the moment of the kernel's answer in fds[].revents, which may be half an
  // answer (KernelEvents).
  void Complete() {
    for (nfds_t i = 0; i < count; ++i) {
      if (fds[i].revents != 0 && counted[i].side() != nullptr)
        fds[i].revents = static_cast<short>(
            fds[i].revents | KernelEvents(fds[i].fd, counted[i].side(), fds[i].events));
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
        if (fifo.ended) found = static_cast<short>(found | (fds[i].events & POLLRDHUP));
        if (want_room && (fifo.out || (fifo.out_from_kernel && KernelWritable(fds[i].fd)))) {
          found = static_cast<short>(found | (fds[i].events & kWrite));
        }
      }
      EpollSet* const set = FindEpollSet(fds[i].fd);
      uint64_t news = 0;
      if (set != nullptr && (found & POLLNVAL) == 0 && SetHolds(set, &news, self))
        found = static_cast<short>(found | (fds[i].events & kRead));
      fds[i].revents = found;
      if (found != 0) ++ready;
    }
    return ready;
  }

 private:
  // Where an agent is, a sleep takes a bell along. Where none is yet, it comes to one that must not
  // convert anything of the set beneath us.
  void EnterSet(nfds_t i, EpollSet* set) {
    // seq_cst: counted before the look at `converted`; pairs with PrepareRegistrations.
    set->plain_polls.fetch_add(1, std::memory_order_seq_cst);
    if (set->converted.load(std::memory_order_seq_cst) != 0 || OwnDoorbellFd() >= 0) {
      set->plain_polls.fetch_sub(1, std::memory_order_release);
      accelerated = true;
    } else {
      counted[i].In(set);
    }
  }
  static void GiveBack(Abandonable* scope) {
    const auto* const self = static_cast<Waited*>(scope);
    for (nfds_t i = 0; i < self->count; ++i) {
      const Counted& was = self->counted[i];
      if (was.side() != nullptr) was.side()->receive.kernel_users.Leave();
      if (was.set() != nullptr) was.set()->plain_polls.fetch_sub(1, std::memory_order_release);
    }
  }
};

int Spin(Waited& waited, Self self) {
  const uint32_t budget = SharedSpinBudgetUs();
  uint64_t start = 0;
  uint32_t turns = 0;
  int ready = 0;
  while (ready == 0 && budget != 0 && SpinTurn(&start, budget, &turns, SharedSpinYields()))
    ready = waited.Evaluate(self);
  SharedSpinEnded(ready != 0);
  return ready;
}

// The side whose FIFO alone can end this wait, or nullptr. All of these events are told there:
// bytes and seals by the peer; what the kernel has to tell of the socket (a FIN, a reset, bytes
// beside the FIFO, urgent data) by the agent, which watches it from Attach to Detach and wakes the
// word's sleepers (ShadowEvent); a shutdown of our own by AfterShutdown. Room is told elsewhere,
// and a sleep on a word cannot have a signal mask.
Side* OnlySide(const Waited& waited, const sigset_t* mask, Self self) {
  constexpr short kToldThere = kRead | POLLRDBAND | POLLPRI | POLLRDHUP;
  if (waited.count != 1 || mask != nullptr || (waited.fds[0].events & ~kToldThere) != 0)
    return nullptr;
  Side* const side = FindSide(waited.fds[0].fd);
  if (side == nullptr || waited.counted[0].side() != nullptr || !IsOurs(side)) return nullptr;
  const LockScope scope(side->receive.lock, self.tid);
  const bool on_fifo = side->receive.route.load(std::memory_order_relaxed) == ReceiveRoute::kFifo &&
                       !side->receive.fifo.foreign;  // no futex there: its agent rings our doorbell
  return on_fifo ? side : nullptr;
}

// What is ready now, by all accounts. A look has not the mask of the call, since a signal that the
// mask lets in must not come before what a FIFO has ready. So one that comes meanwhile came before
// the call, as far as the program can tell.
int LookNow(Waited& waited, const sigset_t* mask, PollCall call, Self self) {
  int answer;
  do {
    answer = KernelPoll(waited.kernel, waited.count, &kNow, nullptr, call);
  } while (answer == -EINTR && mask != nullptr);
  if (answer < 0 && answer != -EINTR) return answer;
  const int ready = waited.Evaluate(self);
  return answer < 0 && ready == 0 ? answer : ready;
}

// A call that does not wait lets in what its mask lets in, where nothing is ready.
int LookUnderMask(Waited& waited, const sigset_t* mask, PollCall call, Self self) {
  const int answer = KernelPoll(waited.kernel, waited.count, &kNow, mask, call);
  return answer < 0 ? answer : waited.Evaluate(self);
}

// The program's own call, where nothing of it is on a FIFO. A handler that has run since the call
// began ends it before, unless something is ready.
int PollByKernel(Waited& waited, bool can_wait, const timespec* timeout, const sigset_t* mask,
                 PollCall call, SelectCall* select, const Interruption& interruption, Self self) {
  if (can_wait && interruption.EndsWait(mask)) {
    const int ready = LookNow(waited, mask, call, self);
    if (ready <= 0) return ready != 0 ? ready : -EINTR;
    timeout = &kNow;
  }
  return select != nullptr ? select->make(select, timeout)
                           : KernelPoll(waited.fds, waited.count, timeout, mask, call);
}

// Waits for that side: spins, asks to be woken, looks everywhere once more, sleeps. How many are
// ready; 0: begin anew. As with poll(2), and not as with recv(2), a signal whose handler has
// SA_RESTART ends it.
int WaitForSide(Waited& waited, Side* side, TimeLimit* limit, PollCall call, bool* may_spin,
                bool* slept_out, const Interruption& interruption, Self self) {
  const bool spins = std::exchange(*may_spin, false);
  if (spins && SpinFor(side, Wanted::kData, self)) return LookNow(waited, nullptr, call, self);
  const WakeRequest request = RequestWake(waited.fds[0].fd, side, Wanted::kData, self);
  const int ready = LookNow(waited, nullptr, call, self);
  if (ready != 0 || request.word == nullptr) return ready;
  const int error = Sleep(request, Patience{limit, /*partial=*/true, &interruption});
  if (error == -EINTR) return error;
  // Woken: what the kernel said before we slept is as good as what it would say now.
  if (error != -EAGAIN) return waited.Evaluate(self);
  if (limit->IsForEver()) return 0;
  *slept_out = true;
  return LookNow(waited, nullptr, call, self);
}

// The sleep itself, with the bell as one descriptor more.
int AskKernel(Waited& waited, const LentBell& bell, const timespec* left, const sigset_t* mask,
              PollCall call, bool* slept_out, const Interruption& interruption) {
  pollfd& for_bell = waited.kernel[waited.count];
  for_bell = pollfd{bell.fd(), POLLIN, 0};
  // Without a bell (more threads sleep than may have one) the kernel must wake us: the FIFOs end.
  // Until what they owe has gone to TCP, look every millisecond.
  if (bell.fd() < 0) waited.LeaveFifos();
  const timespec nap{0, 1000000};
  const bool whole =
      bell.fd() >= 0 || (left != nullptr && left->tv_sec == 0 && left->tv_nsec < nap.tv_nsec);
  const int answer =
      SleepInPoll(waited.kernel, waited.count + 1, whole ? left : &nap, mask, call, interruption);
  // Come round, and look at all of it once more before the program hears of the handler.
  if (answer == kHandlerBegan) return answer;
  *slept_out = answer == 0 && whole && left != nullptr;
  if (for_bell.revents != 0) bell.Swallow();
  return answer;
}

// `left` null: for ever. `slept_out`: the kernel says that this time is over; the program's clock
// may stand still.
int SleepWithBell(Waited& waited, const timespec* left, const sigset_t* mask, PollCall call,
                  bool* slept_out, const Interruption& interruption, Self self) {
  const LentBell bell;
  int answer = 0;
  {
    const SleeperCount sleeper(kCommonBell, bell.number());
    waited.NameBells(bell.number(), self);  // behind the count
    // Once more, now that the bell rings for us.
    if (const int ready = waited.Evaluate(self); ready != 0) return ready;
    answer = AskKernel(waited, bell, left, mask, call, slept_out, interruption);
  }
  if (answer == kHandlerBegan) return 0;
  return answer < 0 ? answer : waited.Evaluate(self);
}

}  // namespace

bool PollIsTheKernels(const pollfd* fds, nfds_t count) {
  // Where nothing is followed, pointers are not asked about: they are for the kernel to follow.
  if (!MayKnow() || FdTable::End() == 0) return true;
  if (process_state.in_doubt) return false;  // PollConcernsUs knows how to look at them
  if (count > INT_MAX || !MayRead(fds, count * sizeof *fds)) return false;
  for (nfds_t i = 0; i < count; ++i) {
    if (!IsTheKernels(fds[i].fd)) return false;
  }
  return true;
}

namespace {
// In a doubt no call of ours may ask about the program's memory; the program's own says EFAULT
// before it does anything.
bool AreThere(pollfd* fds, nfds_t count, PollCall call) {
  return process_state.in_doubt ? KernelPoll(fds, count, &kNow, nullptr, call) != -EFAULT
                                : MayRead(fds, count * sizeof *fds);
}
}  // namespace

bool PollConcernsUs(pollfd* fds, nfds_t count, PollCall call) {
  // The kernel refuses more than RLIMIT_NOFILE.
  if (!MayKnow() || FdTable::End() == 0 || count > INT_MAX || !AreThere(fds, count, call))
    return false;
  bool concerns = false;
  for (nfds_t i = 0; i < count; ++i) {
    concerns = concerns || FindSide(fds[i].fd) != nullptr;
    EpollSet* const set = FindEpollSet(fds[i].fd);
    if (set != nullptr) EpollSetIsWatched(set);
    concerns = concerns || set != nullptr;
  }
  return concerns && process_state.ready;
}

int Poll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask, PollCall call,
         SelectCall* select) {
  const Interruption interruption;
  threads::TestCancel();  // these calls are cancellation points even when they need not wait
  if (timeout != nullptr &&
      (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec > 999999999)) {
    return KernelPoll(fds, count, timeout, mask, call);
  }
  if (!MayWrite(fds, count * sizeof *fds)) return -EFAULT;
  pollfd stack_fds[kOnStack + 2];
  Counted stack_sides[kOnStack + 1];
  const Scratch<pollfd> kernel(stack_fds, count + 1);
  const Scratch<Counted> counted(stack_sides, count);
  if (kernel.get() == nullptr || counted.get() == nullptr) return -ENOMEM;
  Waited waited(fds, kernel.get(), counted.get(), count);
  const Self self = CurrentSelf();
  TimeLimit limit = timeout == nullptr ? TimeLimit() : TimeLimit::After(ToNs(*timeout));
  bool may_spin = true;
  for (bool woken = false;; woken = true) {
    const timespec left = limit.IsForEver() ? kNow : ToTimespec(limit.LeftNs());
    const bool can_wait = limit.IsForEver() || left.tv_sec != 0 || left.tv_nsec != 0;
    waited.EnterKernel(self);
    const timespec* const wait = limit.IsForEver() ? nullptr : &left;
    if (!waited.accelerated) {
      const int ready =
          PollByKernel(waited, can_wait, wait, mask, call, select, interruption, self);
      if (woken && ready > 0 && select == nullptr) waited.Complete();
      waited.LeaveKernel(self);
      return ready;
    }
    bool slept_out = false;
    if (Side* const side = can_wait ? OnlySide(waited, mask, self) : nullptr) {
      const int ready =
          WaitForSide(waited, side, &limit, call, &may_spin, &slept_out, interruption, self);
      waited.LeaveKernel(self);
      if (ready != 0 || slept_out) return ready;
      continue;
    }
    int ready = LookNow(waited, mask, call, self);
    if (ready == 0 && can_wait && may_spin && GetConfig().spin_us != 0) {
      may_spin = false;
      ready = Spin(waited, self);
    }
    if (ready == 0 && can_wait && waited.HearsNoDoorbell()) {
      waited.LeaveKernel(self);
      for (nfds_t i = 0; i < count; ++i) {
        Side* const side = FindSide(fds[i].fd);
        if (side != nullptr && !MayUseFifos(side)) FallBackUnlessOurs(fds[i].fd, side);
      }
      continue;
    }
    if (ready == 0 && !can_wait && mask != nullptr) ready = LookUnderMask(waited, mask, call, self);
    if (ready == 0 && can_wait && interruption.EndsWait(mask)) ready = -EINTR;
    if (ready == 0 && can_wait)
      ready = SleepWithBell(waited, wait, mask, call, &slept_out, interruption, self);
    waited.LeaveKernel(self);
    if (ready != 0 || !can_wait || slept_out) return ready;
  }
}

}  // namespace xenloop

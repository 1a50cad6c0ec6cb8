// What "receive" means on a socket that is (being) accelerated: try; wait; try again. Decides
// blocking, time-outs, low-water mark and the flags of recv; which byte comes from where is
// channel/stream.h's business.
#include <errno.h>

#include "preload/libc/threads.h"
#include "preload/side/borrowed.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/mailbox.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/side/wait.h"
#include "preload/socket/blocked_call.h"
#include "preload/socket/receive_kernel.h"
#include "preload/socket/transfer.h"

namespace xenloop {
namespace {

constexpr int kUnderstoodFlags =
    MSG_DONTWAIT | MSG_PEEK | MSG_WAITALL | MSG_TRUNC | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC;

// No errno has these values, and no count of bytes.
constexpr ssize_t kTryAgain = kUseKernel - 1;
constexpr ssize_t kWait = kUseKernel - 2;

// One receive of at least one byte, from its first try to its result. It lives in the frame of the
// call.
class Reception {
 public:
  // `fd` changes when the program closes the descriptor while this call sleeps; the call then goes
  // on as in the kernel.
  Reception(int* fd, Side* side, const iovec* iov, size_t iov_count, int flags, size_t target,
            const Interruption* interruption)
      : fd_(fd),
        side_(side),
        iov_(iov),
        iov_count_(iov_count),
        flags_(flags),
        peek_((flags & MSG_PEEK) != 0),
        blocking_((flags & MSG_DONTWAIT) == 0 &&
                  side->nonblocking.load(std::memory_order_relaxed) == 0),
        target_(target),
        interruption_(interruption),
        shadow_(*fd, side),
        cursor_(iov, iov_count),
        length_(cursor_.remaining()),
        look_(!blocking_) {}

  ssize_t Run() {
    IovCursor* const destination = (flags_ & MSG_TRUNC) != 0 ? nullptr : &cursor_;
    for (;;) {
      ssize_t result = side_->receive.TryReceive(shadow_, destination, length_ - total_,
                                                 flags_ & (MSG_PEEK | MSG_TRUNC), look_, self_);
      if (result > 0) {
        result = peek_ ? Seen(static_cast<size_t>(result)) : Taken(static_cast<size_t>(result));
      } else if (result == 0) {
        result = total_ == 0 && !peek_ && ResetByDeadPeer(*fd_, side_) ? -ECONNRESET : SoFar(0);
      } else if (result == kStreamUsesTcp) {
        result = GoOnWithTcp();
      } else {
        result = result == -EAGAIN ? kWait : SoFar(result);
      }
      if (result == kWait) result = Wait();
      if (result != kTryAgain) return result;
    }
  }

 private:
  ssize_t SoFar(ssize_t otherwise) const {
    return total_ > 0 ? static_cast<ssize_t>(total_) : otherwise;
  }

  // A peek that waits for more looks again from the start; one that saw no more while looking
  // everywhere is done.
  ssize_t Seen(size_t n) {
    if (n >= target_ || !blocking_ || (look_ && n == seen_ && shadow_.Readable()))
      return static_cast<ssize_t>(n);
    seen_ = n;
    cursor_ = IovCursor(iov_, iov_count_, kMostBytesACall);
    return kWait;
  }

  ssize_t Taken(size_t n) {
    total_ += n;
    if (inherited_) RequestService(side_);  // it may be the last of what a dead peer left
    if (total_ >= target_ || (!blocking_ && (flags_ & MSG_WAITALL) == 0)) return SoFar(0);
    request_.word = nullptr;
    return kTryAgain;
  }

  ssize_t GoOnWithTcp() {
    // The bytes were readable in the FIFO a moment ago: EAGAIN now would be a lie. They are on
    // their way.
    if (side_->receive.owed.exchange(0, std::memory_order_relaxed) > 0 && !blocking_)
      AwaitOwed(*fd_);
    if (total_ == 0) return kUseKernel;
    if (total_ >= target_) return SoFar(0);
    // Nobody goes over to a FIFO while we wait there.
    if (!side_->receive.EnterKernel(self_)) return kTryAgain;
    const ssize_t rest = InKernel(&side_->receive, [&] {
      const size_t wanted = interruption_->Ends(/*restarts=*/false) ? 0 : target_ - total_;
      return ReceiveRestFromKernel(*fd_, cursor_, wanted, length_ - total_, flags_);
    });
    CountTaken(side_, flags_, rest);
    side_->receive.LeaveKernel(self_);
    return static_cast<ssize_t>(total_) + (rest > 0 ? rest : 0);
  }

  // One turn of waiting for bytes: spin; ask to be woken and look once more, everywhere; sleep.
  ssize_t Wait() {
    if (!blocking_) return SoFar(-EAGAIN);
    if (!limit_known_) {
      limit_ = LimitAfter(side_->receive_timeout_us.load(std::memory_order_relaxed));
      limit_known_ = true;
    }
    if (request_.word == nullptr) {
      look_ = false;
      if (!(peek_ && seen_ > 0) && SpinFor(side_, Wanted::kData, self_)) return kTryAgain;
      request_ = RequestWake(*fd_, side_, Wanted::kData, self_);
      look_ = true;
      return kTryAgain;
    }
    BlockedCall blocked(*fd_, side_);
    const int error = Sleep(request_, Patience{&limit_, total_ > 0 || target_ == 0, interruption_});
    const bool found = blocked.Woken(fd_);
    request_.word = nullptr;
    look_ = false;
    if (error != 0) return SoFar(seen_ > 0 ? static_cast<ssize_t>(seen_) : error);
    if (!found) return SoFar(GoOnElsewhere(*fd_));
    shadow_ = SocketShadow(*fd_, side_);
    return kTryAgain;
  }

  int* const fd_;
  Side* const side_;
  const iovec* const iov_;
  const size_t iov_count_;
  const int flags_;
  const bool peek_;
  const bool blocking_;
  const size_t target_;  // what a call that may wait waits for; 0: no handler restarts it
  const Interruption* const interruption_;
  SocketShadow shadow_;
  IovCursor cursor_;
  const size_t length_;
  const Self self_ = CurrentSelf();
  const bool inherited_ =
      side_->receive.route.load(std::memory_order_relaxed) == ReceiveRoute::kResidue;
  TimeLimit limit_;
  bool limit_known_ = false;
  WakeRequest request_{nullptr, 0, false};
  size_t total_ = 0;
  size_t seen_ = 0;  // with MSG_PEEK: what the last look saw
  bool look_;
};

size_t LowWaterMark(Side* side) {
  const size_t low = side->receive_low_water.load(std::memory_order_relaxed);
  if (low <= 1) return low;
  LockScope scope(side->receive.lock, CurrentTid());
  // More than the FIFO holds would never come.
  const size_t most = side->receive.fifo ? side->receive.fifo.capacity_bytes / 2 : low;
  return low < most ? low : most;
}

// Why this receive cannot be from the FIFO.
Reason ObstacleTo(Side* side, int flags) {
  return !MayUseFifos(side)                 ? Reason::kUsedByChild
         : (flags & ~kUnderstoodFlags) != 0 ? Reason::kReceiveFlags
         : SwitchDue(side)                  ? Reason::kSwitchEvery
                                            : Reason::kNone;
}

ssize_t ReceiveOn(int& fd, Side* side, const iovec* iov, size_t iov_count, int flags,
                  int* message_flags, const Interruption& interruption);

// With a low-water mark a blocking receive takes nothing until there is enough (or the end, or no
// time left): if the route changes meanwhile, all of it is on the new one then.
ssize_t ReceiveAtLeast(int& fd, Side* side, const iovec* iov, size_t iov_count, int flags,
                       int* message_flags, const Interruption& interruption) {
  TimeLimit limit = LimitAfter(side->receive_timeout_us.load(std::memory_order_relaxed));
  for (;;) {
    const ssize_t there = ReceiveOn(fd, side, iov, iov_count, flags | MSG_PEEK | MSG_TRUNC,
                                    message_flags, interruption);
    if (there == kUseKernel) {
      // Not by a blocking receive of the kernel: it would take what is there and then not be woken
      // by fewer bytes than the mark. Its poll knows the mark.
      if (!side->receive.EnterKernel(CurrentSelf())) continue;
      int error = 0;
      const ssize_t taken = InKernel(&side->receive, [&] {
        error = SleepUntilReadable(fd, Patience{&limit, false, &interruption});
        const IovCursor cursor(iov, iov_count, kMostBytesACall);
        return ReceiveRestFromKernel(fd, cursor, 0, cursor.remaining(), flags);
      });
      CountTaken(side, flags, taken);
      side->receive.LeaveKernel(CurrentSelf());
      if (taken == 0 && side->receive.residue_due.load(std::memory_order_relaxed) != 0)
        return kUseKernel;  // LeaveKernelReceive has a look at what a dead peer left
      if (taken != -EAGAIN || error != 0) return taken != -EAGAIN ? taken : error;
      continue;
    }
    const ssize_t taken =
        ReceiveOn(fd, side, iov, iov_count, flags | MSG_DONTWAIT, message_flags, interruption);
    if (taken != -EAGAIN || there < 0) return taken != -EAGAIN ? taken : there;
  }
}

// `fd` may change, see Reception.
ssize_t ReceiveOn(int& fd, Side* side, const iovec* iov, size_t iov_count, int flags,
                  int* message_flags, const Interruption& interruption) {
  threads::TestCancel();  // these calls are cancellation points even when they need not wait
  if (message_flags != nullptr) *message_flags = 0;
  if (side->receive.route.load(std::memory_order_relaxed) != ReceiveRoute::kResidue) {
    if (const Reason obstacle = ObstacleTo(side, flags); obstacle != Reason::kNone) {
      FallBack(fd, side, obstacle);
      return kUseKernel;
    }
  }
  if ((flags & MSG_TRUNC) == 0 && HasBadBuffer(iov, iov_count)) return -EFAULT;
  const size_t length = IovCursor(iov, iov_count, kMostBytesACall).remaining();
  const bool blocking =
      (flags & MSG_DONTWAIT) == 0 && side->nonblocking.load(std::memory_order_relaxed) == 0;
  if (length == 0) {  // waits for data or the end all the same, as TCP does
    uint8_t byte;
    const iovec probe{&byte, 1};
    const int probe_flags = (flags & MSG_DONTWAIT) | MSG_PEEK;
    const ssize_t there = Reception(&fd, side, &probe, 1, probe_flags, 0, &interruption).Run();
    // TCP does not ask what has ended its wait.
    return there > 0 || (blocking && (there == -EINTR || there == -EAGAIN)) ? 0 : there;
  }
  size_t target = (flags & MSG_WAITALL) != 0 ? length : 1;
  if (const size_t low = LowWaterMark(side); low > 1 && (flags & MSG_WAITALL) == 0) {
    target = low < length ? low : length;
    if (blocking && (flags & MSG_PEEK) == 0)
      return ReceiveAtLeast(fd, side, iov, iov_count, flags, message_flags, interruption);
  }
  return Reception(&fd, side, iov, iov_count, flags, target, &interruption).Run();
}

}  // namespace

ssize_t Receive(int fd, Side* side, const iovec* iov, size_t iov_count, int flags,
                int* message_flags, const Interruption& interruption) {
  int number = fd;
  const ssize_t received =
      ReceiveOn(number, side, iov, iov_count, flags, message_flags, interruption);
  if (number == fd) return received;
  // The program closed the descriptor while we slept; this call was the last user of the
  // connection.
  ssize_t result = received;
  if (result == kUseKernel) {
    const IovCursor cursor(iov, iov_count, kMostBytesACall);
    const size_t most = cursor.remaining();
    result =
        ReceiveRestFromKernel(number, cursor, (flags & MSG_WAITALL) != 0 ? most : 1, most, flags);
  }
  FinishOrphan(number, side);
  return result;
}

}  // namespace xenloop

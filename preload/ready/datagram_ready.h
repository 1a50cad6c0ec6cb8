// poll, select and epoll with UDP sockets among their descriptors. The wait is the program's own
// call: whoever sends wakes it by the kernel (side/datagram_side.h). Before it and after it we look
// at the FIFOs.
#pragma once

#include <poll.h>
#include <sys/select.h>

#include "channel/base/abandon.h"
#include "channel/base/time.h"
#include "preload/libc/errno.h"
#include "preload/ready/epoll.h"
#include "preload/side/datagram_side.h"
#include "preload/side/wait.h"

namespace xenloop {

// The sockets of one wait. Between Sleep and Wake it is counted at each, also if the thread never
// comes back from there.
class DatagramWait : public Abandonable {
 public:
  static constexpr int kMost = 16;

  // False: there are too many, and this one goes by the kernel.
  bool Add(int fd, DatagramSide* side, bool for_edge = false);
  bool Any() const { return count_ != 0; }
  int count() const { return count_; }
  int fd(int i) const { return fds_[i]; }
  // Something stands in the FIFO of that one.
  bool Holds(int i, uint64_t* published) const;
  bool AnyHolds() const;
  bool Spin() const;
  void Sleep();
  void Wake();

 private:
  static void GiveBack(Abandonable* scope) { static_cast<DatagramWait*>(scope)->CountAwake(); }
  void CountAwake();

  int fds_[kMost];
  DatagramSide* sides_[kMost];
  uint32_t generations_[kMost];
  bool for_edge_[kMost];
  int count_ = 0;
  int sleeping_ = 0;  // so many of them are told
};

// How long a wait may still last that begins anew, because another thread has taken what it was to
// tell of. The first look takes no time to speak of, so the clock is not asked before.
class DatagramPatience {
 public:
  // Null: for ever.
  explicit DatagramPatience(const timespec* timeout) : left_(timeout) {}
  // False: the time is over.
  bool GoesOn();
  const timespec* left() const { return left_; }

 private:
  const timespec* left_;
  timespec rest_{};
  TimeLimit limit_;
};

// Makes a wait: `look` (no waiting) or `wait` (for as long as the patience says), results of
// libc's; `merge` adds what FIFOs hold; `mask` is the call's own. A wait ends with nothing when its
// time is over, and not before.
template <class Look, class Wait, class Merge>
int WaitForDatagrams(DatagramWait& datagrams, bool waits, const timespec* timeout,
                     const sigset_t* mask, Look look, Wait wait, Merge merge) {
  DatagramPatience patience(timeout);
  const Interruption interruption;
  for (;;) {
    bool waited = false;
    bool ended = false;
    int ready;
    if (!waits || datagrams.AnyHolds() || datagrams.Spin()) {
      ready = look();
    } else {
      BeforeLastLook();
      datagrams.Sleep();
      waited = !datagrams.AnyHolds();
      ended = waited && interruption.EndsWait(mask);
      ready = waited && !ended ? Cancellable([&] { return wait(patience); }) : look();
      datagrams.Wake();
    }
    if (ended && ready == 0) return ReturnToLibc(-EINTR);
    if (ready >= 0) ready = merge(ready);
    if (ready != 0 || waited || !waits || !patience.GoesOn()) return ready;
  }
}

// Which of them want to be told of data.
void DatagramsOf(const pollfd* fds, nfds_t count, DatagramWait* datagrams);
void DatagramsOf(int count, const fd_set* read, DatagramWait* datagrams);
int AddDatagrams(const DatagramWait& datagrams, pollfd* fds, nfds_t count, int ready);
int AddDatagrams(const DatagramWait& datagrams, fd_set* read, int ready);

// What a select was asked for: the kernel writes its answer over it.
class SelectQuestion {
 public:
  static constexpr int kMost = FD_SETSIZE;  // of descriptors; with more, datagrams go by the kernel
  SelectQuestion(int count, fd_set* read, fd_set* write, fd_set* except);
  void AskAgain() const;

 private:
  size_t bytes_;
  fd_set* sets_[3];
  unsigned long words_[3][kMost / 64];
};

// ---- epoll ----
int ControlDatagrams(EpollSet* set, int operation, int fd, DatagramSide* side, epoll_event* event);
int WaitInSetWithDatagrams(int epfd, EpollSet* set, epoll_event* events, int max_events,
                           const timespec* timeout, const sigset_t* mask, EpollCall call,
                           const Interruption& interruption);
// Nobody looks at the FIFOs there any more: `good`: its sockets go by the kernel.
void DatagramsForkedChild();
void ForgetDatagramsOf(EpollSet* set, bool to_kernel);

}  // namespace xenloop

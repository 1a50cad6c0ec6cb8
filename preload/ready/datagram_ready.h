// poll, select and epoll with UDP sockets among their descriptors. The wait is the program's own
// call: whoever sends wakes it by the kernel (side/datagram_side.h). Before it and after it we look
// at the FIFOs.
#pragma once

#include <poll.h>
#include <sys/select.h>

#include "preload/ready/epoll.h"
#include "preload/side/datagram_side.h"

namespace xenloop {

// The sockets of one wait.
class DatagramWait {
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
  int fds_[kMost];
  DatagramSide* sides_[kMost];
  uint32_t generations_[kMost];
  bool for_edge_[kMost];
  int count_ = 0;
};

// Makes a wait: `look` (no waiting) or `wait`, results of libc's; `merge` adds what FIFOs hold.
template <class Look, class Wait, class Merge>
int WaitForDatagrams(DatagramWait& datagrams, bool waits, Look look, Wait wait, Merge merge) {
  if (!waits || datagrams.AnyHolds() || datagrams.Spin()) {
    const int ready = look();
    return ready < 0 ? ready : merge(ready);
  }
  datagrams.Sleep();
  const int ready = datagrams.AnyHolds() ? look() : wait();
  datagrams.Wake();
  return ready < 0 ? ready : merge(ready);
}

// Which of them want to be told of data.
void DatagramsOf(const pollfd* fds, nfds_t count, DatagramWait* datagrams);
void DatagramsOf(int count, const fd_set* read, DatagramWait* datagrams);
int AddDatagrams(const DatagramWait& datagrams, pollfd* fds, nfds_t count, int ready);
int AddDatagrams(const DatagramWait& datagrams, fd_set* read, int ready);

// ---- epoll ----
int ControlDatagrams(EpollSet* set, int operation, int fd, DatagramSide* side, epoll_event* event);
int WaitInSetWithDatagrams(int epfd, EpollSet* set, epoll_event* events, int max_events,
                           const timespec* timeout, const sigset_t* mask, EpollCall call);
// Nobody looks at the FIFOs there any more: `good`: its sockets go by the kernel.
void DatagramsForkedChild();
void ForgetDatagramsOf(EpollSet* set, bool to_kernel);

}  // namespace xenloop

// UDP sockets in epoll sets (datagram_ready.h). The kernel's registrations stay as the program made
// them; what we keep of each is what it takes to tell of a FIFO in the program's own terms.
#include <errno.h>

#include "channel/base/lock.h"
#include "preload/ready/datagram_ready.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

RecoverableLock watch_lock;

struct Watch {
  EpollSet* set;  // null: a free place
  int fd;
  uint32_t generation;
  DatagramSide* side;
  uint32_t events;
  uint64_t data;
  uint64_t reported;  // edge-triggered: what had come at the last report
};
constexpr int kMostWatches = 256;
constexpr uint64_t kNever = ~uint64_t{0};
Watch all_watches[kMostWatches] ABSL_GUARDED_BY(watch_lock);
// Behind the last one that was ever used.
int watches_end ABSL_GUARDED_BY(watch_lock) = 0;

struct Watches {
  Watch* begin() ABSL_EXCLUSIVE_LOCKS_REQUIRED(watch_lock) { return all_watches; }
  Watch* end() ABSL_EXCLUSIVE_LOCKS_REQUIRED(watch_lock) { return all_watches + watches_end; }
};

Watch* FindWatch(const EpollSet* set, int fd) ABSL_EXCLUSIVE_LOCKS_REQUIRED(watch_lock) {
  for (Watch& watch : Watches()) {
    if (watch.set == set && watch.fd == fd) return &watch;
  }
  return nullptr;
}

void DropWatch(Watch* watch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(watch_lock) {
  if (watch->set == nullptr) return;
  watch->set->datagrams.fetch_sub(1, std::memory_order_relaxed);
  watch->set = nullptr;
}

bool KeepWatch(EpollSet* set, int fd, DatagramSide* side, const epoll_event& event) {
  const LockScope scope(watch_lock, CurrentTid());
  Watch* watch = FindWatch(set, fd);
  if (watch == nullptr) {
    for (Watch& place : Watches()) {
      if (watch == nullptr && place.set == nullptr) watch = &place;
    }
    if (watch == nullptr && watches_end == kMostWatches) return false;
    if (watch == nullptr) watch = &all_watches[watches_end++];
    set->datagrams.fetch_add(1, std::memory_order_seq_cst);
  }
  *watch = Watch{set,   fd,           side->generation.load(std::memory_order_relaxed),
                 side,  event.events, event.data.u64,
                 kNever};
  return true;
}

// The program's registrations of one set, as they are now.
struct Watched {
  DatagramWait wait;
  Watch copies[DatagramWait::kMost];

  void Collect(EpollSet* set) {
    const LockScope scope(watch_lock, CurrentTid());
    for (Watch& watch : Watches()) {
      if (watch.set != set) continue;
      if (FindDatagram(watch.fd) != watch.side ||
          watch.side->generation.load(std::memory_order_relaxed) != watch.generation) {
        DropWatch(&watch);
      } else if ((watch.events & (EPOLLIN | EPOLLRDNORM)) != 0 && wait.count() < wait.kMost) {
        copies[wait.count()] = watch;
        wait.Add(watch.fd, watch.side, (watch.events & EPOLLET) != 0);
      }
    }
  }
  // What is to be told of that one: events, or 0.
  uint32_t News(int i, uint64_t* published) const {
    const Watch& watch = copies[i];
    if (!wait.Holds(i, published)) return 0;
    const bool edge = (watch.events & EPOLLET) != 0;
    if (edge && *published == watch.reported) return 0;
    // An edge tells the whole state, and there is always room to send.
    return watch.events & (EPOLLIN | EPOLLRDNORM | (edge ? EPOLLOUT | EPOLLWRNORM : 0u));
  }
  bool AnyNews() const {
    uint64_t published;
    for (int i = 0; i < wait.count(); ++i) {
      if (News(i, &published) != 0) return true;
    }
    return false;
  }
  int Merge(epoll_event* events, int count, int max_events) {
    for (int i = 0; i < wait.count(); ++i) {
      uint64_t published;
      const uint32_t news = News(i, &published);
      if (news == 0) continue;
      int at = 0;
      while (at < count && events[at].data.u64 != copies[i].data) ++at;
      if (at == max_events) continue;
      if (at == count) {
        events[count].events = 0;
        events[count++].data.u64 = copies[i].data;
      }
      events[at].events |= news;
      Reported(i, published);
    }
    return count;
  }

 private:
  void Reported(int i, uint64_t published) {
    copies[i].reported = published;
    const LockScope scope(watch_lock, CurrentTid());
    Watch* const watch = FindWatch(copies[i].set, copies[i].fd);
    if (watch != nullptr && watch->generation == copies[i].generation) watch->reported = published;
  }
};

bool MayWatch(const EpollSet* set, const epoll_event& event) {
  return (event.events & (EPOLLONESHOT | EPOLLEXCLUSIVE)) == 0 && !set->watched.load() &&
         !set->blind && !set->inherited && set->owner_pid == process_state.pid &&
         set->datagrams.load(std::memory_order_relaxed) < DatagramWait::kMost;
}

}  // namespace

int ControlDatagrams(EpollSet* set, int operation, int fd, DatagramSide* side, epoll_event* event) {
  const int result =
      static_cast<int>(sys::Call(SYS_epoll_ctl, set->epfd, operation, fd, sys::Word(event)));
  if (result != 0) return result;
  if (operation == EPOLL_CTL_DEL) {
    const LockScope scope(watch_lock, CurrentTid());
    if (Watch* const watch = FindWatch(set, fd)) DropWatch(watch);
    return result;
  }
  uint64_t published;
  // Another thread sleeps in the set: it has not counted itself for this socket.
  const bool alone = !set->sleepers.Any();
  if (!MayWatch(set, *event) || !KeepWatch(set, fd, side, *event) || set->inherited ||
      set->sleepers.Any()) {
    DatagramToKernel(fd, Reason::kEpollUnfollowed, KernelFor::kGood);
  } else if (!alone && DatagramReadable(side, &published)) {
    DatagramToKernel(fd, Reason::kEpollUnfollowed, KernelFor::kNow);
  }
  return result;
}

int WaitInSetWithDatagrams(int epfd, EpollSet* set, epoll_event* events, int max_events,
                           const timespec* timeout, const sigset_t* mask, EpollCall call,
                           const Interruption& interruption) {
  constexpr timespec kNow{0, 0};
  const bool waits = timeout == nullptr || timeout->tv_sec != 0 || timeout->tv_nsec != 0;
  const auto look = [&] {
    // What the kernel has must not keep out what FIFOs have.
    const bool room = max_events > 1 || (set->datagram_turn.fetch_add(1) & 1) == 0;
    if (max_events == 1 && !room) return 0;
    return WaitInSet(epfd, set, events, max_events > 1 ? max_events - 1 : 1, &kNow, mask, call,
                     interruption);
  };
  DatagramPatience patience(timeout);
  for (;;) {
    Watched watched;
    watched.Collect(set);
    bool waited = false;
    int ready;
    if (watched.AnyNews() || (waits && watched.wait.Spin() && watched.AnyNews())) {
      ready = look();
    } else if (!waits) {
      ready = WaitInSet(epfd, set, events, max_events, timeout, mask, call, interruption);
    } else {
      watched.wait.Sleep();
      waited = !watched.AnyNews();
      ready = waited ? WaitInSet(epfd, set, events, max_events, patience.left(), mask, call,
                                 interruption)
                     : look();
      watched.wait.Wake();
    }
    if (ready >= 0) ready = watched.Merge(events, ready, max_events);
    // Nothing: another thread has taken what there was to tell of.
    if (ready != 0 || waited || !waits || !patience.GoesOn()) return ready;
  }
}

// Alone. All sockets are forgotten.
void DatagramsForkedChild() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  if (DatagramSides() == nullptr) return;
  watch_lock.Release();
  for (Watch& watch : Watches()) DropWatch(&watch);
}

void ForgetDatagramsOf(EpollSet* set, bool to_kernel) {
  if (set->datagrams.load(std::memory_order_seq_cst) == 0) return;
  int fds[kMostWatches];
  int count = 0;
  {
    const LockScope scope(watch_lock, CurrentTid());
    for (Watch& watch : Watches()) {
      if (watch.set != set) continue;
      fds[count++] = watch.fd;
      DropWatch(&watch);
    }
  }
  for (int i = 0; to_kernel && i < count; ++i)
    DatagramToKernel(fds[i], Reason::kEpollWatched, KernelFor::kGood);
}

}  // namespace xenloop

// An epoll set with the few calls that the tests repeat; each event is returned, not judged.

#pragma once

#include <sys/epoll.h>

#include <utility>
#include <vector>

#include "tests/conformance/check.h"

namespace conformance {

class EpollSet {
 public:
  EpollSet() : set_(epoll_create1(EPOLL_CLOEXEC)) {}
  explicit EpollSet(FileDescriptor set) : set_(std::move(set)) {}

  int fd() const { return set_.get(); }
  int Close() { return set_.Close(); }

  Outcome Control(int operation, int fd, uint32_t events, uint64_t data = 0) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = data;
    return Call(epoll_ctl(set_.get(), operation, fd, &event));
  }
  Outcome Add(int fd, uint32_t events, uint64_t data = 0) {
    return Control(EPOLL_CTL_ADD, fd, events, data);
  }
  Outcome Modify(int fd, uint32_t events, uint64_t data = 0) {
    return Control(EPOLL_CTL_MOD, fd, events, data);
  }
  Outcome Remove(int fd) { return Call(epoll_ctl(set_.get(), EPOLL_CTL_DEL, fd, nullptr)); }

  std::vector<epoll_event> Wait(int timeout_ms, int most = 16) const {
    std::vector<epoll_event> events(most);
    const int count = epoll_wait(set_.get(), events.data(), most, timeout_ms);
    events.resize(count < 0 ? 0 : count);
    return events;
  }

  // The events of the only descriptor that is ready: 0 if none is, all ones if several are.
  uint32_t Next(int timeout_ms = kSoonMs) const {
    const std::vector<epoll_event> events = Wait(timeout_ms);
    if (events.empty()) return 0;
    return events.size() == 1 ? events[0].events : ~0u;
  }
  bool Quiet() const { return Wait(kNothingMs).empty(); }

  // Waits until at least `wanted` has been reported (level-triggered sets), then returns it all.
  uint32_t NextWith(uint32_t wanted) const {
    const Stopwatch stopwatch;
    uint32_t events = 0;
    while ((events & wanted) != wanted && stopwatch.ElapsedMs() < kSoonMs) events = Next();
    return events;
  }

 private:
  FileDescriptor set_;
};

}  // namespace conformance

// An epoll set as a program has it whose library follows it.
#pragma once

#include <sys/epoll.h>
#include <unistd.h>

#include "preload/ready/epoll.h"
#include "preload/side/fd_table.h"
#include "preload/socket/socket.h"
#include "tests/unit/preload/followed_socket.h"

namespace xenloop {

class Set {
 public:
  Set() : fd_(epoll_create1(EPOLL_CLOEXEC)) {
    EpollCreated(fd_);
    set_ = FindEpollSet(fd_);
  }
  ~Set() {
    BeforeClose(fd_);
    close(fd_);
  }
  Set(const Set&) = delete;
  Set& operator=(const Set&) = delete;

  int fd() const { return fd_; }
  EpollSet* set() const { return set_; }
  int Control(int operation, int fd, uint32_t events, uint64_t data = 7) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = data;
    return EpollControl(fd_, set_, operation, fd, &event);
  }
  // The only event there is, or none (data 0); -errno in `events`.
  epoll_event Wait(int timeout_ms) {
    epoll_event event{};
    const timespec timeout{timeout_ms / 1000, timeout_ms % 1000 * 1000000};
    const int count = EpollWait(fd_, set_, &event, 1, timeout_ms < 0 ? nullptr : &timeout, nullptr,
                                EpollCall::kPwait2);
    if (count == 1) return event;
    event.data.u64 = 0;
    event.events = static_cast<uint32_t>(count);
    return event;
  }
  uint32_t Converted() const { return set_->converted.load(); }

 private:
  int fd_;
  EpollSet* set_;
};

// What a thread that sleeps in the set is told when the socket's peer has sent something.
uint64_t WokenByPeer(Set& set, FollowedSocket& socket);

}  // namespace xenloop

// See lent_bell.h.
#include "preload/ready/lent_bell.h"

#include <sys/epoll.h>

#include <atomic>

#include "channel/base/sys.h"
#include "preload/side/fd_table.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/private_fd.h"

namespace xenloop {

struct SleeperBell {
  std::atomic<uint32_t> lent;
  int epfd;  // 0: not made yet
  int bell_fd;
};

namespace {
SleeperBell bells[64];
}  // namespace

LentBell::LentBell() {
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

LentBell::~LentBell() {
  if (bell_ == nullptr) return;
  Leave();
  GiveBack(this);
}

int LentBell::fd() const { return bell_ != nullptr && bell_->epfd > 0 ? bell_->epfd : -1; }

void LentBell::Swallow() const {
  epoll_event event;
  sys::Call(SYS_epoll_pwait, fd(), reinterpret_cast<long>(&event), 1, 0, 0, 8);
}

void LentBell::GiveBack(Abandonable* scope) {
  static_cast<LentBell*>(scope)->bell_->lent.store(0, std::memory_order_release);
}

void PollForkedChild() {
  for (SleeperBell& bell : bells) {
    if (bell.epfd > 0) ClosePrivate(bell.epfd);
    bell.epfd = 0;
    bell.lent.store(0, std::memory_order_relaxed);
  }
}

}  // namespace xenloop

// See lent_bell.h.
#include "preload/ready/lent_bell.h"

#include <sys/epoll.h>
#include <sys/mman.h>

#include <atomic>

#include "channel/base/descriptor.h"
#include "channel/base/sys.h"
#include "preload/side/agent_shared.h"
#include "preload/side/bells.h"
#include "preload/side/fd_table.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/private_fd.h"

namespace xenloop {

struct SleeperBell {
  std::atomic<uint32_t> lent;
  int epfd;  // 0: not made yet
  int bell_fd;
  uint32_t number;
};

namespace {

// In blocks: the first is there, the others come when so many threads sleep at once, and stay. Each
// bell that was used once keeps its descriptor; all together take no more than a share of those
// that the program may have.
constexpr uint32_t kBlock = 64;
constexpr uint32_t kMostBlocks = 64;
constexpr uint32_t kShare = 8;
SleeperBell first_bells[kBlock];
std::atomic<SleeperBell*> blocks[kMostBlocks] = {first_bells};
thread_local SleeperBell* last_lent = nullptr;

// nullptr: there is none, and none may be added.
SleeperBell* Block(uint32_t number) {
  SleeperBell* block = blocks[number].load(std::memory_order_acquire);
  if (block != nullptr || (number + 1) * kBlock > sys::DescriptorLimit() / kShare) return block;
  constexpr size_t kBytes = sizeof(SleeperBell) * kBlock;
  const long memory =
      sys::Call(SYS_mmap, 0, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory < 0 && memory > -4096) return nullptr;
  auto* const made = reinterpret_cast<SleeperBell*>(memory);
  if (blocks[number].compare_exchange_strong(block, made, std::memory_order_acq_rel)) return made;
  sys::Call(SYS_munmap, memory, kBytes);
  return block;
}

bool IsLentNow(SleeperBell* bell) {
  uint32_t free = 0;
  return bell->lent.load(std::memory_order_relaxed) == 0 &&
         bell->lent.compare_exchange_strong(free, 1, std::memory_order_acquire);
}

SleeperBell* Borrow() {
  if (last_lent != nullptr && IsLentNow(last_lent)) return last_lent;
  for (uint32_t number = 0; number < kMostBlocks; ++number) {
    SleeperBell* const block = Block(number);
    for (uint32_t i = 0; block != nullptr && i < kBlock; ++i) {
      if (IsLentNow(&block[i])) return last_lent = &block[i];
    }
    if (block == nullptr) break;
  }
  return nullptr;
}

}  // namespace

LentBell::LentBell() {
  const int doorbell = OwnDoorbellFd();
  if (doorbell < 0) return;
  bell_ = Borrow();
  if (bell_ == nullptr) return;
  Enter(&GiveBack);
  if (bell_->epfd > 0 && bell_->bell_fd == doorbell && FdTable::IsPrivate(bell_->epfd)) return;
  const int fd = MakePrivateBy(SYS_epoll_create1, EPOLL_CLOEXEC);
  if (bell_->number <= kCommonBell) bell_->number = LendOwnBell(BellFor::kSleeper);
  if (bell_->number == kAnyBell) bell_->number = kCommonBell;
  const int own = bell_->number == kCommonBell ? -1 : OwnBellFd(bell_->number);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  const int parents = agent_shared.parents_doorbell.fd;
  for (const int line : {doorbell, OwnBellFd(kCommonBell), own, parents}) {
    if (fd >= 0 && line >= 0)
      sys::Call(SYS_epoll_ctl, fd, EPOLL_CTL_ADD, line, reinterpret_cast<long>(&event));
  }
  bell_->epfd = fd;
  bell_->bell_fd = doorbell;
}

LentBell::~LentBell() {
  if (bell_ == nullptr) return;
  Leave();
  GiveBack(this);
}

int LentBell::fd() const { return bell_ != nullptr && bell_->epfd > 0 ? bell_->epfd : -1; }

uint32_t LentBell::number() const { return fd() >= 0 ? bell_->number : kCommonBell; }

void LentBell::Swallow() const {
  constexpr int kLines = 4;
  epoll_event events[kLines];
  sys::Call(SYS_epoll_pwait, fd(), reinterpret_cast<long>(events), kLines, 0, 0, 8);
}

void LentBell::GiveBack(Abandonable* scope) {
  static_cast<LentBell*>(scope)->bell_->lent.store(0, std::memory_order_release);
}

void PollForkedChild() {
  for (const std::atomic<SleeperBell*>& place : blocks) {
    SleeperBell* const block = place.load(std::memory_order_relaxed);
    for (uint32_t i = 0; block != nullptr && i < kBlock; ++i) {
      if (block[i].epfd > 0) ClosePrivate(block[i].epfd);
      block[i].epfd = 0;
      block[i].number = 0;
      block[i].lent.store(0, std::memory_order_relaxed);
    }
  }
}

}  // namespace xenloop

// See datagram_ready.h.
#include "preload/ready/datagram_ready.h"

#include <string.h>

#include "channel/base/time.h"
#include "preload/libc/errno.h"
#include "preload/libc/program_memory.h"
#include "preload/ready/select.h"
#include "preload/settings/config.h"
#include "preload/side/self.h"
#include "preload/side/wait.h"

namespace xenloop {
namespace {
constexpr short kPollRead = POLLIN | POLLRDNORM;
}  // namespace

bool DatagramWait::Add(int fd, DatagramSide* side, bool for_edge) {
  if (count_ == kMost) {
    DatagramToKernel(fd, Reason::kManyDatagramSockets, KernelFor::kGood);
    return false;
  }
  fds_[count_] = fd;
  sides_[count_] = side;
  for_edge_[count_] = for_edge;
  generations_[count_++] = side->generation.load(std::memory_order_acquire);
  return true;
}

bool DatagramWait::Holds(int i, uint64_t* published) const {
  return FindDatagram(fds_[i]) == sides_[i] && DatagramReadable(sides_[i], published);
}

bool DatagramWait::AnyHolds() const {
  uint64_t published;
  for (int i = 0; i < count_; ++i) {
    if (Holds(i, &published)) return true;
  }
  return false;
}

bool DatagramWait::Spin() const {
  bool any = false;
  bool share = true;
  for (int i = 0; i < count_; ++i) {
    if (sides_[i]->receiving.load(std::memory_order_relaxed) == 0) continue;
    any = true;
    share = share && SendersShareOurProcessor(sides_[i]);
  }
  if (!any || GetConfig().spin_us == 0) return false;
  if (share) return YieldUntil([this] { return AnyHolds(); });
  const uint32_t budget = SharedSpinBudgetUs();
  if (budget == 0) return false;
  uint64_t start = 0;
  uint32_t turns = 0;
  bool found = false;
  while (!found && SpinTurn(&start, budget, &turns, SharedSpinYields())) found = AnyHolds();
  SharedSpinEnded(found);
  return found;
}

void DatagramWait::Sleep() {
  sleeping_ = 0;
  Enter(&GiveBack);
  for (int i = 0; i < count_; ++i) {
    CountDatagramSleeper(sides_[i], for_edge_[i]);
    sleeping_ = i + 1;
    TellOfDatagramSleep(sides_[i]);
  }
}

void DatagramWait::Wake() {
  const KeepErrno keep_errno;
  Leave();
  CountAwake();
}

void DatagramWait::CountAwake() {
  for (int i = 0; i < sleeping_; ++i) DatagramWake(sides_[i], generations_[i], for_edge_[i]);
}

bool DatagramPatience::GoesOn() {
  if (left_ == nullptr) return true;
  if (limit_.IsForEver()) limit_ = TimeLimit::After(ToNs(*left_));
  const uint64_t left = limit_.LeftNs();
  if (left == 0) return false;
  rest_ = ToTimespec(left);
  left_ = &rest_;
  return true;
}

void DatagramsOf(const pollfd* fds, nfds_t count, DatagramWait* datagrams) {
  if (DatagramSides() == nullptr || !process_state.ready || !MayRead(fds, count * sizeof *fds))
    return;
  for (nfds_t i = 0; i < count; ++i) {
    DatagramSide* const side = (fds[i].events & kPollRead) != 0 ? FindDatagram(fds[i].fd) : nullptr;
    if (side != nullptr) datagrams->Add(fds[i].fd, side);
  }
}

int AddDatagrams(const DatagramWait& datagrams, pollfd* fds, nfds_t count, int ready) {
  for (int i = 0; i < datagrams.count(); ++i) {
    uint64_t published;
    if (!datagrams.Holds(i, &published)) continue;
    for (nfds_t j = 0; j < count; ++j) {
      if (fds[j].fd != datagrams.fd(i)) continue;
      const bool was = fds[j].revents != 0;
      fds[j].revents = static_cast<short>(fds[j].revents | (fds[j].events & kPollRead));
      if (!was && fds[j].revents != 0) ++ready;
    }
  }
  return ready;
}

namespace {
unsigned long* WordOf(fd_set* set, int fd) {
  return reinterpret_cast<unsigned long*>(set) + fd / 64;
}
unsigned long BitOf(int fd) { return 1ul << (fd % 64); }
}  // namespace

void DatagramsOf(int count, const fd_set* read, DatagramWait* datagrams) {
  if (DatagramSides() == nullptr || !process_state.ready || read == nullptr || count < 0) return;
  const int end = FdTable::End() < count ? FdTable::End() : count;
  const bool too_many = count > SelectQuestion::kMost;
  if (!MayRead(read, (static_cast<size_t>(end) + 63) / 64 * 8)) return;
  EachSelected(end, read, nullptr, nullptr, [=](int fd) {
    DatagramSide* const side = FindDatagram(fd);
    if (side == nullptr) return;
    if (too_many) {
      DatagramToKernel(fd, Reason::kManyDatagramSockets, KernelFor::kGood);
    } else {
      datagrams->Add(fd, side);
    }
  });
}

int AddDatagrams(const DatagramWait& datagrams, fd_set* read, int ready) {
  for (int i = 0; i < datagrams.count(); ++i) {
    uint64_t published;
    const int fd = datagrams.fd(i);
    if ((*WordOf(read, fd) & BitOf(fd)) != 0 || !datagrams.Holds(i, &published)) continue;
    *WordOf(read, fd) |= BitOf(fd);
    ++ready;
  }
  return ready;
}

SelectQuestion::SelectQuestion(int count, fd_set* read, fd_set* write, fd_set* except)
    : bytes_((static_cast<size_t>(count) + 63) / 64 * 8), sets_{read, write, except} {
  for (int i = 0; i < 3; ++i) {
    if (!MayWrite(sets_[i], bytes_)) sets_[i] = nullptr;  // the kernel refuses it
    if (sets_[i] != nullptr) memcpy(words_[i], sets_[i], bytes_);
  }
}

void SelectQuestion::AskAgain() const {
  for (int i = 0; i < 3; ++i) {
    if (sets_[i] != nullptr) memcpy(sets_[i], words_[i], bytes_);
  }
}

}  // namespace xenloop

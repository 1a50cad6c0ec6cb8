// See parked.h.
#include "preload/side/parked.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>

#include "channel/base/descriptor.h"
#include "channel/base/time.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"
#include "preload/side/stats.h"

namespace xenloop {

ParkedState parked{};
std::atomic<bool> parks_something{false};

const RestoredOption kRestored[kRestoredOptions] = {{IPPROTO_TCP, TCP_NODELAY},
                                                    {SOL_SOCKET, SO_KEEPALIVE},
                                                    {IPPROTO_TCP, TCP_KEEPIDLE},
                                                    {IPPROTO_TCP, TCP_KEEPINTVL},
                                                    {IPPROTO_TCP, TCP_KEEPCNT}};

uint32_t OptionBit(int level, int name) {
  for (int i = 0; i < kRestoredOptions; ++i) {
    if (kRestored[i].level == level && kRestored[i].name == name) return 1u << i;
  }
  return kOtherOption;
}

ParkedPair* PairOf(const Side* side) {
  const uint32_t number = side->pair.load(std::memory_order_acquire);
  if (number == 0 || !IsOurs(side)) return nullptr;
  ParkedPair* const pair = &parked.pairs[number - 1];
  return pair->side == side ? pair : nullptr;
}

ParkedPair* TakePair(Role role) {
  parks_something.store(true, std::memory_order_relaxed);
  // Of the program's numbers they take a small share only.
  uint64_t left = std::min<uint64_t>(kMostPairs, sys::DescriptorLimit() / 16);
  for (ParkedPair& pair : parked.pairs) {
    if (left-- == 0) break;
    if (pair.stage.load(std::memory_order_acquire) != PairStage::kFree) continue;
    pair.role = role;
    pair.side = nullptr;
    pair.fd = -1;
    pair.board = nullptr;
    pair.end = ParkedEnd{};
    pair.owed = LifeWord{};
    pair.connecting = pair.reset = false;
    pair.tuple = Tuple{};
    pair.idle_since_ns.store(sys::MonotonicNs(), std::memory_order_relaxed);
    pair.accepted_fd.store(-1, std::memory_order_relaxed);
    pair.stage.store(PairStage::kMade, std::memory_order_release);
    return &pair;
  }
  return nullptr;
}

void NoLongerExpected() {
  uint32_t now = parked.expected.load(std::memory_order_relaxed);
  while (now != 0 &&
         !parked.expected.compare_exchange_weak(now, now - 1, std::memory_order_acq_rel)) {
  }
}

void EndOrphan(ParkedPair* pair) {
  PairStage made = PairStage::kMade;
  if (pair->stage.compare_exchange_strong(made, PairStage::kFree, std::memory_order_acq_rel))
    NoLongerExpected();
}

bool IsHot(std::atomic<uint64_t>& window_ns, std::atomic<uint32_t>& count) {
  constexpr uint32_t kOften = 8;
  const uint64_t now = sys::MonotonicNs();
  const uint64_t since = now - window_ns.load(std::memory_order_relaxed);
  if (since > kNsPerSecond) {
    window_ns.store(now, std::memory_order_relaxed);
    count.store(since > 2 * kNsPerSecond ? 0 : count.load(std::memory_order_relaxed) / 2,
                std::memory_order_relaxed);
  }
  const uint32_t so_far = count.load(std::memory_order_relaxed) + 1;
  count.store(so_far, std::memory_order_relaxed);
  return so_far >= kOften;
}

void BeginLife(ParkedPair* pair, int fd, bool nonblocking) {
  Side* const side = pair->side;
  FdTable::SetSide(fd, side);
  FdTable::SetPrivate(pair->fd);
  side->fd.store(fd, std::memory_order_release);
  if ((side->nonblocking.load(std::memory_order_relaxed) != 0) != nonblocking) {
    sys::Call(SYS_fcntl, fd, F_SETFL, nonblocking ? O_NONBLOCK : 0);
    side->nonblocking.store(nonblocking ? 1 : 0, std::memory_order_relaxed);
  }
  pair->side->send.known_consumer = 0;
  side->send.defer_switch.store(0, std::memory_order_relaxed);
  side->send.pending_error.store(0, std::memory_order_relaxed);
  side->receive.owed.store(0, std::memory_order_relaxed);
  side->operations.store(0, std::memory_order_relaxed);
  side->next_attempt.store(~0ull, std::memory_order_relaxed);
  side->shut.store(0, std::memory_order_relaxed);
  side->options_set.store(0, std::memory_order_relaxed);
  side->spin_history.store(0, std::memory_order_relaxed);
  if (side->attached.load(std::memory_order_relaxed) != 0)
    side->reason.store(Reason::kNone, std::memory_order_relaxed);
  pair->connecting = false;
  pair->stage.store(PairStage::kOpen, std::memory_order_release);
  CountConnection();
  CountUpgrade();
}

namespace {

// Nobody else finds the pair from here on.
void TakeOut(const ParkedPair* pair) {
  const uint32_t tid = CurrentTid();
  if (pair->role == Role::kClient) {
    Destination& destination = parked.destinations[pair->place];
    const LockScope scope(destination.lock, tid);
    for (std::atomic<ParkedPair*>& place : destination.pairs) {
      if (place.load(std::memory_order_relaxed) == pair)
        place.store(nullptr, std::memory_order_relaxed);
    }
    destination.made.fetch_sub(1, std::memory_order_relaxed);
    // Else what was wanted when there were more would be taken for a wish that is not fulfilled
    // yet.
    destination.wanted.store(0, std::memory_order_relaxed);
    return;
  }
  ListenerQueue& queue = parked.queues[pair->place];
  const LockScope scope(queue.lock, tid);
  QueuedEnd& place = queue.boards[pair->board_at].ends[pair->hint];
  if (place.pair() == pair) place.Set(nullptr);
  queue.pairs.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace

void LetGoOfPair(Side* side) {
  ParkedPair* const pair = PairOf(side);
  if (pair == nullptr) return;
  TakeOut(pair);
  side->pair.store(0, std::memory_order_release);
  if (pair->fd >= 0 && FdTable::IsPrivate(pair->fd)) ClosePrivate(pair->fd);
  pair->side = nullptr;
  // It may still come, and is then to be taken away.
  if (!IsExpected(*pair)) pair->stage.store(PairStage::kFree, std::memory_order_release);
}

void EndPair(ParkedPair* pair) {
  Side* const side = pair->side;
  if (side == nullptr || PairOf(side) != pair) return;
  bool idle = false;
  {
    const uint32_t tid = CurrentTid();
    const LockScope send(side->send.lock, tid);
    const LockScope receive(side->receive.lock, tid);
    const PairStage stage = pair->stage.load(std::memory_order_relaxed);
    if (!pair->end || stage == PairStage::kMade) return;
    idle = stage == PairStage::kIdle;
    if (!idle) pair->end.MarkLast();
    if (idle) pair->end.End();
  }
  if (!idle) return;
  parked.ended.fetch_add(1, std::memory_order_relaxed);
  FallBack(pair->fd, side, Reason::kParkEnded);
}

void EndAllPairs() {
  if (!parks_something.load(std::memory_order_relaxed)) return;
  for (ListenerQueue& queue : parked.queues) {
    if (queue.in_use.load(std::memory_order_acquire) != 0)
      EndQueue(queue.listener, QueueEnd::kGoesOn);
  }
  for (ParkedPair& pair : parked.pairs) EndPair(&pair);
}

bool HoldsIdlePairs() {
  if (!parks_something.load(std::memory_order_relaxed)) return false;
  for (const ParkedPair& pair : parked.pairs) {
    if (pair.stage.load(std::memory_order_acquire) == PairStage::kIdle) return true;
  }
  return false;
}

void ForgetParked() {
  if (!parks_something.load(std::memory_order_relaxed)) return;
  uint32_t expected = 0;
  for (ParkedPair& pair : parked.pairs) {
    const bool may_come = IsExpected(pair);
    expected += may_come ? 1 : 0;
    pair.side = nullptr;
    pair.end = ParkedEnd{};
    if (!may_come) pair.stage.store(PairStage::kFree, std::memory_order_relaxed);
  }
  parked.expected.store(expected, std::memory_order_relaxed);
  for (Destination& destination : parked.destinations) {
    for (std::atomic<ParkedPair*>& place : destination.pairs)
      place.store(nullptr, std::memory_order_relaxed);
    destination.made.store(0, std::memory_order_relaxed);
    destination.wanted.store(0, std::memory_order_relaxed);
    destination.ordinary.store(kNoneWaits, std::memory_order_relaxed);
    destination.board_id = 0;
  }
  for (ListenerQueue& queue : parked.queues) {
    if (queue.in_use.load(std::memory_order_relaxed) == 0) continue;
    queue.in_use.store(0, std::memory_order_relaxed);
    for (QueueBoard& board : queue.boards) {
      board.talk = 0;
      board.board.store(nullptr, std::memory_order_relaxed);
      for (QueuedEnd& end : board.ends) end.Set(nullptr);
    }
  }
  parked.wanted.store(0, std::memory_order_relaxed);
  parks_something.store(expected != 0, std::memory_order_relaxed);
}

namespace {

size_t FormatLives(char* text, size_t capacity) {
  if (parked.made.load(std::memory_order_relaxed) == 0) return 0;
  const auto read = [](const std::atomic<uint64_t>& count) {
    return static_cast<unsigned long>(count.load(std::memory_order_relaxed));
  };
  const int n = snprintf(
      text, capacity,
      ",\"lives\":{\"connected\":%lu,\"accepted\":%lu,\"parked\":%lu,\"made\":%lu,\"ended\":%lu}",
      read(parked.connected), read(parked.accepted), read(parked.parked), read(parked.made),
      read(parked.ended));
  return n > 0 && static_cast<size_t>(n) < capacity ? static_cast<size_t>(n) : 0;
}

}  // namespace

size_t FormatParked(char* text, size_t capacity) {
  if (!parks_something.load(std::memory_order_relaxed)) return 0;
  size_t n = FormatLives(text, capacity);
  uint8_t counts[kReasonCount] = {};  // no more than kMostQueues and kMostDestinations
  for (const ListenerQueue& queue : parked.queues) {
    if (queue.in_use.load(std::memory_order_acquire) != 0)
      ++counts[static_cast<size_t>(queue.why.load(std::memory_order_relaxed))];
  }
  for (const Destination& to : parked.destinations) {
    if (to.in_use.load(std::memory_order_acquire) == 2)
      ++counts[static_cast<size_t>(to.why.load(std::memory_order_relaxed))];
  }
  bool any = false;
  for (size_t number = 1; number < kReasonCount; ++number) {
    const char* const words = ReasonText(static_cast<Reason>(number));
    if (counts[number] == 0 || n + strlen(words) + 32 > capacity) continue;
    n += static_cast<size_t>(snprintf(text + n, capacity - n, "%s\"%s\":%u",
                                      any ? "," : ",\"not_parked\":{", words, counts[number]));
    any = true;
  }
  if (!any) return n;
  text[n++] = '}';
  text[n] = '\0';
  return n;
}

}  // namespace xenloop

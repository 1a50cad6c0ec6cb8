// Packets to another agent: sent at once, or kept until there is room. That the socket takes no
// more, since the peer is busy or stopped, is a wait and never a reason: answers and seals wait in
// a list, offers wait unmade, so that no more memory and no more descriptors are under way than a
// window allows.
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "channel/base/descriptor.h"
#include "channel/base/time.h"
#include "discovery/protocol/descriptors.h"
#include "preload/agent/agent_tasks.h"
#include "preload/side/each_side.h"
#include "preload/side/fd_table.h"
#include "preload/side/private_fd.h"

namespace xenloop {
namespace {

constexpr size_t kMostDescriptors = 2;

// Of offers without an answer, to one peer. Each is a FIFO and a descriptor in flight, and of these
// the kernel allows a user no more than one process may have open.
constexpr uint32_t kMostOffersOut = 64;
// A peer that keeps to its own window has no more offers waiting for our answers; of one that does
// not, and takes no answers, nothing more is read.
constexpr uint32_t kMostAnswersUnsent = 4 * kMostOffersOut;

// What no event tells the end of: no memory, too many descriptors in flight.
constexpr uint64_t kFirstPauseNs = 10 * kNsPerMs;
constexpr uint64_t kLongestPauseNs = 1000 * kNsPerMs;

bool IsShortage(long error) {
  return error == -ENOBUFS || error == -ENOMEM || error == -ETOOMANYREFS;
}

long SendNow(const Talk& talk, const ControlMessage& message, const int* fds, size_t fd_count) {
  DescriptorRoom<kMostDescriptors> room;
  iovec iov{const_cast<ControlMessage*>(&message), sizeof message};
  msghdr header = {};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  room.Put(fds, fd_count, &header);
  if (!FdTable::IsPrivate(talk.fd)) return -EBADF;
  return sys::Call(SYS_sendmsg, talk.fd, reinterpret_cast<long>(&header),
                   MSG_DONTWAIT | MSG_NOSIGNAL);
}

Unsent& At(uint32_t link) { return agent.post.entries[link - 1]; }

uint32_t TakeEntry() {
  uint32_t link = agent.post.free;
  if (link != 0) {
    agent.post.free = At(link).next;
  } else if (agent.post.used < kMostUnsent) {
    link = ++agent.post.used;
  }
  return link;
}

bool IsAnswer(const Unsent& entry) {
  return entry.message.type == ControlType::kJoin || entry.message.type == ControlType::kRefuse ||
         entry.message.type == ControlType::kDatagramJoin ||
         entry.message.type == ControlType::kDatagramRefuse;
}

// Removes the first one that waits.
void DropFirst(Talk& talk) {
  const uint32_t link = talk.first_unsent;
  Unsent& entry = At(link);
  if (IsAnswer(entry)) --talk.answers_unsent;
  if (entry.fd >= 0) ClosePrivate(entry.fd);
  talk.first_unsent = entry.next;
  if (talk.first_unsent == 0) talk.last_unsent = 0;
  entry.next = agent.post.free;
  agent.post.free = link;
}

int Keep(Talk& talk, const ControlMessage& message, const int* fds, size_t fd_count) {
  int fd = -1;
  if (fd_count > 0) {
    fd = static_cast<int>(
        sys::Call(SYS_fcntl, fds[0], F_DUPFD_CLOEXEC, static_cast<long>(sys::DescriptorBase())));
    if ((fd = MakePrivate(fd)) < 0) return fd;
  }
  const uint32_t link = TakeEntry();
  if (link == 0) {
    if (fd >= 0) ClosePrivate(fd);
    return -ENOBUFS;
  }
  At(link) = Unsent{message, fd, 0};
  (talk.last_unsent == 0 ? talk.first_unsent : At(talk.last_unsent).next) = link;
  talk.last_unsent = link;
  if (IsAnswer(At(link))) ++talk.answers_unsent;
  return 0;
}

// The socket has refused: who tells us when to go on?
void AwaitRoom(Talk& talk, long error) {
  talk.full = error == -EAGAIN;
  talk.short_of = error != -EAGAIN;
  if (talk.short_of) agent.timers.StartWithin(Timer::kPost, AgentNs(), kFirstPauseNs);
  WatchTalk(talk);
}

bool MayOffer(const Talk& talk) {
  return talk.ready && talk.offers_out < kMostOffersOut && talk.first_unsent == 0 && !talk.full &&
         !talk.short_of;
}

}  // namespace

bool ReadsFrom(const Talk& talk) { return talk.answers_unsent <= kMostAnswersUnsent; }

// A talk that is being left is not watched any more.
void WatchTalk(Talk& talk) {
  if (!talk.in_use || talk.fd < 0 || talk.leaving) return;
  const uint32_t events = (ReadsFrom(talk) ? EPOLLIN : 0u) | (talk.full ? EPOLLOUT : 0u);
  if (events == talk.watched) return;
  talk.watched = events;
  WatchAnew(talk.fd, WatchKind::kTalk, static_cast<uint32_t>(&talk - agent.talks.first), 0, events);
}

int SendControl(Talk& talk, const ControlMessage& message, const int* fds, size_t fd_count) {
  if (talk.first_unsent == 0) {
    const long sent = SendNow(talk, message, fds, fd_count);
    if (sent >= 0) return 0;
    if (sent != -EAGAIN && !IsShortage(sent)) return static_cast<int>(sent);
    // Whoever makes these tries again, and makes them only when there is room.
    if (message.type == ControlType::kOffer || message.type == ControlType::kBell)
      AwaitRoom(talk, sent);
    if (message.type != ControlType::kJoin && message.type != ControlType::kRefuse &&
        message.type != ControlType::kSealed && message.type < ControlType::kDatagramJoin)
      return -EAGAIN;
    AwaitRoom(talk, sent);
  }
  if (talk.leaving) return -EAGAIN;
  const int error = Keep(talk, message, fds, fd_count);
  if (error == -ENOBUFS) talk.deaf = agent.post.due = true;
  WatchTalk(talk);
  return error;
}

void GoOnSending(uint32_t index) {
  Talk& talk = agent.talks[index];
  talk.full = talk.short_of = false;
  while (talk.first_unsent != 0) {
    const Unsent& entry = At(talk.first_unsent);
    const long sent = SendNow(talk, entry.message, &entry.fd, entry.fd >= 0 ? 1 : 0);
    if (sent == -EAGAIN || IsShortage(sent)) {
      AwaitRoom(talk, sent);
      return;
    }
    DropFirst(talk);  // sent, or the talk is over: its end is met by whoever reads
  }
  TellBellsAnew(index);
  agent.post.due = true;
  WatchTalk(talk);
}

void DropUnsent(Talk& talk) {
  while (talk.first_unsent != 0) DropFirst(talk);
  talk.full = talk.short_of = talk.deaf = false;
}

bool AwaitsRoomForOffer(uint32_t slot) {
  if (MayOffer(agent.talks[agent.sides[slot].talk])) return false;
  agent.post.waiting[slot / 64] |= 1ull << (slot % 64);
  return true;
}

void OfferIsOut(AgentSide& note) {
  note.offer_out = true;
  ++agent.talks[note.talk].offers_out;
}

void OfferIsAnswered(AgentSide& note) {
  if (!note.offer_out) return;
  note.offer_out = false;
  --agent.talks[note.talk].offers_out;
  agent.post.due = true;
}

uint64_t SendAfterShortage(uint64_t pause_ns) {
  bool again = false;
  for (uint32_t i = 0; i < kMaxTalks; ++i) {
    if (agent.talks[i].short_of) GoOnSending(i);
    again = again || agent.talks[i].short_of;
  }
  agent.timers.Stop(Timer::kPost);  // started there as after a first shortage
  if (!again) return kNotAgain;
  return pause_ns * 2 < kLongestPauseNs ? pause_ns * 2 : kLongestPauseNs;
}

void DeliverPost() {
  if (!agent.post.due) return;
  agent.post.due = false;
  for (uint32_t i = 0; i < kMaxTalks; ++i) {
    if (agent.talks[i].deaf) TalkGone(i);
  }
  EachSlotIn(agent.post.waiting, [](uint32_t slot) {
    const AgentSide& note = agent.sides[slot];
    if (note.stage == Stage::kWaiting && !MayOffer(agent.talks[note.talk])) return;
    agent.post.waiting[slot / 64] &= ~(1ull << (slot % 64));
    if (note.stage == Stage::kWaiting) SendOffer(slot);
  });
}

}  // namespace xenloop

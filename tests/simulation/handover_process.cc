// See handover_process.h.
#include "tests/simulation/handover_process.h"

#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "channel/local/local_transport.h"
#include "discovery/handover.h"
#include "preload/agent/agent_tasks.h"
#include "preload/ready/epoll_registrations.h"
#include "preload/side/agent_shared.h"
#include "preload/side/bells.h"
#include "preload/side/fd_table.h"
#include "preload/side/holders.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"
#include "preload/socket/passing.h"
#include "preload/socket/transfer.h"

namespace xenloop::simulation {
namespace {

[[noreturn]] void Die(const char* what) {
  perror(what);
  _exit(99);
}

constexpr uint64_t kWorldId = 1000;

}  // namespace

uint8_t HandoverByte(int connection, bool from_world, uint64_t position) {
  return static_cast<uint8_t>(
      (position * 7 + static_cast<uint64_t>(connection) * 31 + (from_world ? 131 : 0)) % 251);
}

void SendPacket(int channel, const void* packet, size_t length, int first, int second) {
  iovec iov{const_cast<void*>(packet), length};
  alignas(cmsghdr) char room[CMSG_SPACE(2 * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  const int fds[2] = {first, second};
  const size_t count = first < 0 ? 0 : second < 0 ? 1 : 2;
  if (count != 0) {
    message.msg_control = room;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* const part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(part), fds, count * sizeof(int));
  }
  if (sendmsg(channel, &message, MSG_NOSIGNAL) != static_cast<ssize_t>(length)) Die("sendmsg");
}

bool ReceivePacketOf(int channel, void* packet, size_t length, std::array<int, 2>* fds, bool wait) {
  iovec iov{packet, length};
  alignas(cmsghdr) char room[CMSG_SPACE(2 * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = room;
  message.msg_controllen = sizeof room;
  const ssize_t n = recvmsg(channel, &message, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
  if (n == 0) _exit(0);  // the other end is gone
  if (n < 0) return false;
  *fds = {-1, -1};
  const cmsghdr* const part = CMSG_FIRSTHDR(&message);
  if (part != nullptr) memcpy(fds->data(), CMSG_DATA(part), part->cmsg_len - CMSG_LEN(0));
  return true;
}

void PrepareAgent(uint64_t id) {
  if (Arena() == nullptr) FreeSide(AllocateSide());
  Ticket ticket;
  if (LocalTransport().create_doorbell(&agent_shared.doorbell, &ticket) != 0 || !MapAgentMemory())
    Die("agent");
  agent_shared.doorbell.fd = MakePrivate(ticket.fds[0]);
  agent.page_fd = MakePrivate(ticket.fds[1]);
  agent.epoll_fd = MakePrivate(epoll_create1(EPOLL_CLOEXEC));
  agent.id = id;
  MakeCommonBell(LocalTransport());
  agent_shared.started.store(2);
  // Nobody waits for what the world will do next: all that a thread of the agent does not wait for.
  agent_shared.tid.store(CurrentTid());
}

uint32_t TalkWith(uint64_t id, const std::array<int, 2>& doorbell) {
  uint32_t index = 0;
  while (agent.talks[index].in_use) ++index;
  Talk& talk = agent.talks[index];
  Renew(talk);
  Ticket ticket;
  ticket.fds[0] = doorbell[0];
  ticket.fds[1] = doorbell[1];
  if (LocalTransport().map_doorbell(&ticket, &agent_shared.peers[index]) != 0) Die("doorbell");
  agent_shared.peers[index].fd = MakePrivate(agent_shared.peers[index].fd);
  talk.in_use = talk.ready = true;
  talk.transport = &LocalTransport();
  talk.agent_id = id;
  talk.sides = 1;  // and so it stays
  return index;
}

bool AttachBy(int fd, uint32_t talk, int theirs, int* mine) {
  Side* const side = FindSide(fd);
  const uint32_t slot = SlotOf(side);
  AgentSide& note = agent.sides[slot];
  if (side->attached.load() != 0) return false;
  side->fd.store(fd);
  side->owner_pid.store(process_state.pid);
  Ticket ticket;
  note = AgentSide{};
  note.stage = Stage::kOffered;
  note.generation = side->generation.load();
  note.talk = talk;
  ++agent.talks[talk].sides;
  Ticket from;
  from.fds[0] = theirs;
  if (LocalTransport().create_fifo(4096, &note.mine, &ticket) != 0) Die("FIFO");
  if (theirs >= 0 && LocalTransport().map_fifo(&from, &note.theirs) != 0) Die("their FIFO");
  *mine = ticket.fds[0];
  return theirs < 0 || Attach(slot);
}

namespace {

// With one byte, and room for one descriptor.
struct RightsMessage {
  RightsMessage() {
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    message.msg_control = room;
    message.msg_controllen = sizeof room;
  }
  char byte = 'x';
  iovec iov{&byte, 1};
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
};

class Process {
 public:
  Process(const ProcessPlan& plan, int index) : plan_(plan), index_(index), fds_(plan.fds) {
    sets_.fill(-1);
    for (int c = 0; c < kConnections && index == 0; ++c) {
      if (!plan.native) SocketAdopted(fds_[At(c)], Handover{}, /*key=*/0, /*uid=*/0);
      Learn(c);
    }
  }
  [[noreturn]] void Run() {
    for (;;) {
      Command command;
      std::array<int, 2> fds;
      if (!ReceivePacketOf(plan_.channels[index_], &command, sizeof command, &fds, true)) continue;
      Reply reply{};
      mine_ = bell_ = -1;
      reply.bell = kAnyBell;
      reply.result = Do(command, fds, &reply);
      const bool meets = command.op == Op::kMeet && !plan_.native;
      SendPacket(plan_.channels[index_], &reply, sizeof reply,
                 meets ? agent_shared.doorbell.fd : mine_, meets ? agent.page_fd : bell_);
      if (mine_ >= 0) close(mine_);
    }
  }

 private:
  static size_t At(int i) { return static_cast<size_t>(i); }
  void Learn(int c) {
    if (Side* const side = FindSide(fds_[At(c)])) slots_[At(c)] = SlotOf(side);
  }

  long Do(const Command& command, const std::array<int, 2>& fds, Reply* reply) {
    const int c = command.index;
    int& set = sets_[At(command.set)];
    switch (command.op) {
      case Op::kMeet:
        if (plan_.native) return 0;
        PrepareAgent(static_cast<uint64_t>(index_) + 1);
        talk_ = TalkWith(kWorldId, fds);
        return 0;
      case Op::kFork:
        return Fork(c);
      case Op::kMakeSet:
        set = epoll_create1(EPOLL_CLOEXEC);
        if (!plan_.native) EpollCreated(set);
        return 0;
      case Op::kCloseSet:
        if (!plan_.native) BeforeClose(set);
        close(set);
        set = -1;
        return 0;
      case Op::kAdd:
        return Control(set, EPOLL_CTL_ADD, c, command.events);
      case Op::kDelete:
        return Control(set, EPOLL_CTL_DEL, c, 0);
      case Op::kLook:
        return Wait(set, /*for_ever=*/false, reply);
      case Op::kSleep:
        return Wait(set, /*for_ever=*/true, reply);
      case Op::kReceive:
        return Receive(c, command.bytes, reply);
      case Op::kSend:
        return Send(c, command.bytes, command.position);
      case Op::kClose:
        if (!plan_.native) BeforeClose(fds_[At(c)]);
        close(fds_[At(c)]);
        fds_[At(c)] = -1;
        return 0;
      case Op::kAttach:
        return Upgrade(c, fds[0], reply);
      case Op::kService:
        if (!plan_.native && slots_[At(c)] != kMaxSides) ServiceSide(slots_[At(c)]);
        return 0;
      case Op::kPass:
        return Pass(c);
      case Op::kTake:
        return Take(c);
    }
    return -1;
  }

  long Fork(int index) {
    agent_shared.tid.store(0);  // nor is there a thread that could be asked to end
    const int parent = getpid();
    const int child = fork();
    if (child != 0) {
      agent_shared.tid.store(CurrentTid());
      if (plan_.mutant == HandoverMutant::kForkNotCounted) {
        for (const uint32_t slot : slots_) SideAt(slot)->holders.store(1);
      }
      return child;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    index_ = index;
    sets_.fill(-1);
    if (plan_.mutant == HandoverMutant::kStaysParent) process_state.pid = parent;
    for (Command command;;) {  // its first: the parent answers for the fork
      std::array<int, 2> fds;
      if (!ReceivePacketOf(plan_.channels[index_], &command, sizeof command, &fds, true)) continue;
      Reply reply{};
      reply.result = Do(command, fds, &reply);
      const bool ours = !plan_.native;
      SendPacket(plan_.channels[index_], &reply, sizeof reply, ours ? agent_shared.doorbell.fd : -1,
                 ours ? agent.page_fd : -1);
      Run();
    }
  }

  long Control(int set, int operation, int c, uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = static_cast<uint64_t>(c) + 1;
    if (plan_.native) return epoll_ctl(set, operation, fds_[At(c)], &event);
    const long result = EpollControl(set, FindEpollSet(set), operation, fds_[At(c)], &event);
    LoseDoorbells();
    return result;
  }

  // As if what a child inherits made every later conversion there look done.
  void LoseDoorbells() {
    if (plan_.mutant != HandoverMutant::kSetWithoutDoorbell || index_ != 1) return;
    const LockScope scope(registrations_lock, CurrentTid());
    for (const int set : sets_) {
      if (set >= 0) RemoveDoorbell(FindEpollSet(set));
    }
  }

  long Wait(int set, bool for_ever, Reply* reply) {
    epoll_event events[kConnections + 2];
    const timespec now{0, 0};
    const int count = plan_.native
                          ? epoll_wait(set, events, kConnections + 2, for_ever ? -1 : 0)
                          : EpollWait(set, FindEpollSet(set), events, kConnections + 2,
                                      for_ever ? nullptr : &now, nullptr, EpollCall::kWait);
    for (int i = 0; i < count; ++i) {
      if (events[i].data.u64 - 1 >= kConnections) return -1;
      reply->events[events[i].data.u64 - 1] |= events[i].events;
    }
    return count;
  }

  long Receive(int c, uint32_t bytes, Reply* reply) {
    const int fd = fds_[At(c)];
    const iovec iov{reply->bytes, bytes};
    return ReceiveOr(fd, FindSide(fd), &iov, 1, MSG_DONTWAIT, nullptr,
                     [&] { return recv(fd, reply->bytes, bytes, MSG_DONTWAIT); });
  }

  long Send(int c, uint32_t bytes, uint64_t position) {
    const int fd = fds_[At(c)];
    uint8_t data[kMostBytes];
    for (uint32_t i = 0; i < bytes; ++i) data[i] = HandoverByte(c, false, position + i);
    const iovec iov{data, bytes};
    constexpr int kFlags = MSG_DONTWAIT | MSG_NOSIGNAL;
    return SendOr(fd, FindSide(fd), &iov, 1, kFlags, [&] { return send(fd, data, bytes, kFlags); });
  }

  long Upgrade(int c, int theirs, Reply* reply) {
    const int fd = fds_[At(c)];
    Side* const side = plan_.native ? nullptr : FindSide(fd);
    if (side == nullptr || side->attached.load() != 0 || side->pinned.load() != 0) {
      close(theirs);
      return 0;
    }
    UpdateInherited(side);
    if (plan_.mutant == HandoverMutant::kTakeUpShared && index_ == 2) {
      side->inherited.store(0);
      side->holders.store(1);
    }
    const bool attached = AttachBy(fd, talk_, theirs, &mine_);
    if (!attached) {
      Abandon(SlotOf(side), Reason::kNone);
      return 0;
    }
    LoseDoorbells();
    reply->bell = side->bell.load();
    bell_ = reply->bell == kAnyBell ? -1 : OwnBellFd(reply->bell);
    if (bell_ >= 0) side->told_bell.store(reply->bell);
    return 1;
  }

  long Pass(int c) {
    RightsMessage rights;
    msghdr& message = rights.message;
    cmsghdr* const part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(part), &fds_[At(c)], sizeof(int));
    Passing passing;
    if (!plan_.native) passing.Begin(plan_.pass_channel, &message);
    return sendmsg(plan_.pass_channel, &message, 0);
  }

  long Take(int c) {
    RightsMessage rights;
    msghdr& message = rights.message;
    if (recvmsg(plan_.pass_channel, &message, MSG_CMSG_CLOEXEC) != 1) return -1;
    if (!plan_.native) AfterReceiving(plan_.pass_channel, &message, 0);
    memcpy(&fds_[At(c)], CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
    Learn(c);
    return FindSide(fds_[At(c)]) != nullptr ? 1 : 0;
  }

  const ProcessPlan plan_;
  int index_;
  std::array<int, kConnections> fds_;
  std::array<uint32_t, kConnections> slots_{kMaxSides, kMaxSides};
  std::array<int, kSets> sets_;
  uint32_t talk_ = 0;
  int mine_ = -1;  // for the answer
  int bell_ = -1;
};

}  // namespace

void RunProcess(const ProcessPlan& plan, int index) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  Process process(plan, index);
  process.Run();
}

}  // namespace xenloop::simulation

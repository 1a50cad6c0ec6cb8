// See handover_world.h.
#include "tests/simulation/handover_world.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel/local/local_transport.h"
#include "discovery/handover.h"
#include "preload/agent/agent_tasks.h"
#include "preload/side/bells.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"
#include "preload/socket/transfer.h"

namespace xenloop::simulation {
namespace {

Side* SideOf(int fd) { return FindSide(fd); }

bool IsOnFifoNow(int fd) {
  const Side* const side = SideOf(fd);
  return side != nullptr && side->send.route.load() == SendRoute::kFifo;
}

}  // namespace

HandoverWorld::HandoverWorld(uint64_t seed, HandoverMutant mutant, bool native,
                             HandoverCoverage* coverage)
    : random_(seed),
      mutant_(mutant),
      native_(native),
      coverage_(coverage),
      heir_(static_cast<int>(random_.Below(kProcesses + 1)) - 1) {
  if (heir_ == 0) heir_ = 1;
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* const name = reinterpret_cast<sockaddr*>(&address);
  ProcessPlan plan{mutant, native, theirs_, -1, {}};
  if (bind(listener, name, length) != 0 || listen(listener, kConnections) != 0 ||
      getsockname(listener, name, &length) != 0)
    Fail("listen");
  for (int c = 0; c < kConnections; ++c) {
    connections_[c].fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(connections_[c].fd, name, length) != 0) Fail("connect");
    const int accepted = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    const int one = 1;
    setsockopt(accepted, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);  // for AwaitDelivery
    plan.fds[static_cast<size_t>(c)] = accepted;
  }
  close(listener);
  for (int w = 0; w < kProcesses; ++w) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) Fail("socketpair");
    channels_[w] = pair[0];
    theirs_[w] = pair[1];
  }
  int pass[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pass) != 0) Fail("socketpair");
  for (const int w : {0, kStranger}) {
    const pid_t pid = fork();
    if (pid != 0) {
      workers_[w].pid = pid;
      continue;
    }
    for (const Connection& connection : connections_) close(connection.fd);
    for (const int channel : channels_) close(channel);
    plan.pass_channel = pass[w == 0 ? 0 : 1];
    close(pass[w == 0 ? 1 : 0]);
    if (w == kStranger) {
      for (int& fd : plan.fds) {
        close(fd);
        fd = -1;
      }
    }
    RunProcess(plan, w);
  }
  close(pass[0]);
  close(pass[1]);
  for (int c = 0; c < kConnections; ++c) {
    close(plan.fds[static_cast<size_t>(c)]);
    if (!native) SocketAdopted(connections_[c].fd, Handover{}, /*key=*/0, /*uid=*/0);
    workers_[0].holds[static_cast<size_t>(c)] = true;
  }
  if (!native) PrepareAgent(1000);
  MeetWith(0);
  MeetWith(kStranger);
}

HandoverWorld::~HandoverWorld() {
  for (const Worker& worker : workers_) {
    if (worker.pid != 0) kill(worker.pid, SIGKILL);
  }
  while (waitpid(-1, nullptr, 0) > 0) {
  }
}

void HandoverWorld::Fail(const std::string& what) const { throw Failure(what); }

void HandoverWorld::Record(const char* what, int w, int c, long value) {
  notes_.push_back("  " + std::string(1, "PCS"[w]) + " " + what + " connection " +
                   std::to_string(c) + ": " + std::to_string(value) + "\n");
  if (notes_.size() > 60) notes_.pop_front();
}
std::string HandoverWorld::LastSteps() const {
  std::string text;
  for (const std::string& note : notes_) text += note;
  return text;
}

Reply HandoverWorld::Ask(int w, Command command, int fd) {
  std::array<int, 2> fds;
  Reply reply;
  SendPacket(channels_[w], &command, sizeof command, fd);
  ReceivePacketOf(channels_[w], &reply, sizeof reply, &fds, true);
  if (command.op != Op::kAttach) return reply;
  Connection& connection = connections_[command.index];
  const uint32_t slot = SlotOf(SideOf(connection.fd));
  if (reply.result == 0) {
    Abandon(slot, Reason::kNone);
    return reply;
  }
  Ticket ticket;
  ticket.fds[0] = fds[0];
  if (LocalTransport().map_fifo(&ticket, &agent.sides[slot].theirs) != 0 || !Attach(slot))
    Fail("the world cannot attach");
  Ticket bell;
  bell.fds[0] = fds[1];
  const uint32_t talk = workers_[w].talk;
  if (fds[1] < 0) return reply;
  if (!WantsPeerBell(talk, reply.bell, kMostBells)) {
    close(fds[1]);
  } else if (!AddPeerBell(talk, reply.bell, MakePrivate(LocalTransport().map_bell(&bell)))) {
    Fail("no memory for bells");
  }
  return reply;
}

void HandoverWorld::MeetWith(int w) {
  Command command{};
  command.op = Op::kMeet;
  Reply reply;
  std::array<int, 2> fds;
  SendPacket(channels_[w], &command, sizeof command, native_ ? -1 : agent_shared.doorbell.fd,
             native_ ? -1 : agent.page_fd);
  ReceivePacketOf(channels_[w], &reply, sizeof reply, &fds, true);
  if (!native_) workers_[w].talk = TalkWith(static_cast<uint64_t>(w) + 1, fds);
}

bool HandoverWorld::Lives(int c) const {
  for (const Worker& worker : workers_) {
    if (worker.holds[static_cast<size_t>(c)]) return true;
  }
  return false;
}

void HandoverWorld::Step() {
  const int c = static_cast<int>(random_.Below(kConnections));
  if (heir_ >= 0 && random_.OneIn(8)) HandOver(c);
  switch (random_.Below(10)) {
    case 0:
    case 1:
      if (Lives(c)) SendTo(c, 1 + random_.Below(kMostBytes));
      break;
    case 2:
      if (!native_ && Lives(c) && random_.OneIn(6))
        FallBack(connections_[c].fd, SideOf(connections_[c].fd), Reason::kMarkedPoint);
      break;
    case 3:
      if (Lives(c)) Hear(c);
      break;
    default:
      Act(heir_ >= 0 && random_.OneIn(2) ? heir_ : static_cast<int>(random_.Below(kProcesses)));
  }
  ServiceOurs();
  CheckSleepers();
}

// What servers do: the heir gets it, and nobody else keeps it.
void HandoverWorld::HandOver(int c) {
  if (!workers_[heir_].holds[static_cast<size_t>(c)]) {
    if (heir_ == kStranger && Awake(0)) return Pass(0, c);
    return Awake(0) && workers_[1].pid == 0 ? Fork() : void();
  }
  for (int w = 0; w < kProcesses; ++w) {
    if (w != heir_ && Awake(w) && workers_[w].holds[static_cast<size_t>(c)]) return Close(w, c);
  }
}

void HandoverWorld::Act(int w) {
  if (!Awake(w)) return w == 1 && workers_[1].pid == 0 && random_.OneIn(8) ? Fork() : void();
  const int c = static_cast<int>(random_.Below(kConnections));
  const int s = static_cast<int>(random_.Below(kSets));
  Worker& worker = workers_[w];
  const Command sleep{Op::kSleep, 0, s, 0, 0, 0};
  const bool holds = worker.holds[static_cast<size_t>(c)];
  switch (random_.Below(14)) {
    case 0:
    case 1:
      if (holds) Register(w, s, c);
      return;
    case 2:
    case 3:
      if (worker.has_set[static_cast<size_t>(s)]) LookAt(w, s);
      return;
    case 4:
    case 5:
      if (!worker.has_set[static_cast<size_t>(s)]) return;
      SendPacket(channels_[w], &sleep, sizeof sleep);
      Record("sleeps in set", w, s, 0);
      worker.asleep = s;
      ++coverage_->sleeps;
      return;
    case 6:
    case 7:
      if (holds) Receive(w, c);
      return;
    case 8:
      if (holds) Answer(w, c);
      return;
    case 9:
    case 10:
      if (holds && !native_) Upgrade(w, c);
      return;
    case 11:
      Ask(w, Command{Op::kService, c, 0, 0, 0, 0});
      return;
    case 12:
      if (holds && heir_ != 1 && random_.OneIn(4)) Pass(w, c);
      return;
    default:
      if (holds && random_.OneIn(3)) return Close(w, c);
      if (!worker.has_set[static_cast<size_t>(s)] || !random_.OneIn(12)) return;
      Ask(w, Command{Op::kCloseSet, 0, s, 0, 0, 0});
      worker.has_set[static_cast<size_t>(s)] = false;
      worker.sets[static_cast<size_t>(s)] = {};
      Record("closes set", w, s, 0);
  }
}

void HandoverWorld::Fork() {
  if (!Awake(0)) return;
  const Reply reply = Ask(0, Command{Op::kFork, 1, 0, 0, 0, 0});
  workers_[1].pid = static_cast<pid_t>(reply.result);
  workers_[1].holds = workers_[0].holds;
  MeetWith(1);
  Record("is forked", 1, 0, reply.result);
  ++coverage_->forks;
}

void HandoverWorld::Register(int w, int s, int c) {
  Worker& worker = workers_[w];
  bool& has_set = worker.has_set[static_cast<size_t>(s)];
  Registered& registered = worker.sets[static_cast<size_t>(s)][static_cast<size_t>(c)];
  if (!has_set) Ask(w, Command{Op::kMakeSet, 0, s, 0, 0, 0});
  has_set = true;
  if (registered.events == kUnknown) return;
  const bool add = registered.events == 0;
  if (!add && !random_.OneIn(4)) return;
  const uint32_t events =
      !add ? 0 : static_cast<uint32_t>(EPOLLIN) | (random_.OneIn(3) ? EPOLLET : 0u);
  const Reply reply = Ask(w, Command{add ? Op::kAdd : Op::kDelete, c, s, events, 0, 0});
  if (reply.result != 0) Fail("epoll_ctl: " + std::to_string(reply.result));
  registered = Registered{events, true};
  Record(add ? "registers" : "takes out", w, c, static_cast<long>(events));
}

void HandoverWorld::LookAt(int w, int s) {
  const Reply reply = Ask(w, Command{Op::kLook, 0, s, 0, 0, 0});
  Told(w, s, reply, /*slept=*/false);
}

void HandoverWorld::Receive(int w, int c) {
  Connection& connection = connections_[c];
  const Side* const side = native_ ? nullptr : SideOf(connection.fd);
  const bool by_fifo = side != nullptr && side->attached.load() != 0;
  const uint32_t wanted = 1 + random_.Below(kMostBytes);
  Reply reply = Ask(w, Command{Op::kReceive, c, 0, 0, wanted, 0});
  if (reply.result < 0 && connection.sent != connection.taken && AwaitDelivery())
    reply = Ask(w, Command{Op::kReceive, c, 0, 0, wanted, 0});
  Record("receives from", w, c, reply.result);
  if (connection.sent == connection.taken && reply.result >= 0) Fail("receives what nobody sent");
  if (connection.sent != connection.taken && reply.result <= 0) Fail("does not receive");
  for (long i = 0; i < reply.result; ++i) {
    if (reply.bytes[i] != HandoverByte(c, true, connection.taken + static_cast<uint64_t>(i)))
      Fail("receives a wrong byte");
  }
  if (reply.result > 0) connection.taken += static_cast<uint64_t>(reply.result);
  if (by_fifo && w == 1 && connection.attached_by == 0) ++coverage_->borrowed;
  if (connection.passed && w != kStranger && workers_[kStranger].holds[static_cast<size_t>(c)])
    ++coverage_->passed_and_kept;
}

void HandoverWorld::Answer(int w, int c) {
  Connection& connection = connections_[c];
  if (connection.answered > connection.heard + 4096) return;
  const uint32_t bytes = 1 + random_.Below(kMostBytes);
  const Reply reply = Ask(w, Command{Op::kSend, c, 0, 0, bytes, connection.answered});
  if (reply.result > 0) connection.answered += static_cast<uint64_t>(reply.result);
  Record("answers by", w, c, reply.result);
}

void HandoverWorld::Hear(int c) {
  Connection& connection = connections_[c];
  uint8_t bytes[kMostBytes];
  const iovec iov{bytes, sizeof bytes};
  const ssize_t n =
      ReceiveOr(connection.fd, native_ ? nullptr : SideOf(connection.fd), &iov, 1, MSG_DONTWAIT,
                nullptr, [&] { return recv(connection.fd, bytes, sizeof bytes, MSG_DONTWAIT); });
  for (ssize_t i = 0; i < n; ++i) {
    if (bytes[i] != HandoverByte(c, false, connection.heard + static_cast<uint64_t>(i)))
      Fail("the world hears a wrong byte");
  }
  if (n > 0) connection.heard += static_cast<uint64_t>(n);
}

void HandoverWorld::SendTo(int c, uint32_t bytes) {
  Connection& connection = connections_[c];
  if (connection.sent > connection.taken + 2048) return;
  uint8_t data[kMostBytes];
  for (uint32_t i = 0; i < bytes; ++i) data[i] = HandoverByte(c, true, connection.sent + i);
  const iovec iov{data, bytes};
  constexpr int kFlags = MSG_DONTWAIT | MSG_NOSIGNAL;
  const ssize_t sent = SendOr(connection.fd, native_ ? nullptr : SideOf(connection.fd), &iov, 1,
                              kFlags, [&] { return send(connection.fd, data, bytes, kFlags); });
  notes_.push_back("  world sends " + std::to_string(sent) + " to connection " + std::to_string(c) +
                   (IsOnFifoNow(connection.fd) ? " by FIFO\n" : " by TCP\n"));
  if (sent <= 0) return;
  connection.sent += static_cast<uint64_t>(sent);
  (IsOnFifoNow(connection.fd) ? coverage_->fifo_bytes : coverage_->tcp_bytes) +=
      static_cast<uint64_t>(sent);
  for (Worker& worker : workers_) {
    for (auto& set : worker.sets) set[static_cast<size_t>(c)].news = true;
  }
}

}  // namespace xenloop::simulation

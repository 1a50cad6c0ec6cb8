// See followed_socket.h.
#include "tests/unit/preload/followed_socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "channel/local/local_transport.h"
#include "discovery/handover.h"
#include "preload/ready/epoll.h"
#include "preload/side/agent_shared.h"
#include "preload/side/bells.h"
#include "preload/side/fallback.h"
#include "preload/side/fd_table.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/socket/socket.h"

namespace xenloop {
namespace {

[[noreturn]] void Die(const char* what) {
  perror(what);
  abort();
}

}  // namespace

void StartDoorbell() {
  if (agent_shared.started.load() == 2) return;
  // An agent is started for a socket.
  if (Arena() == nullptr) FreeSide(AllocateSide());
  Ticket ticket;
  if (LocalTransport().create_doorbell(&agent_shared.doorbell, &ticket) != 0) Die("doorbell");
  agent_shared.doorbell.fd = MakePrivate(ticket.fds[0]);
  close(ticket.fds[1]);
  MakeCommonBell(LocalTransport());
  agent_shared.poke_fd.store(MakePrivate(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
  agent_shared.started.store(2);
}

FollowedSocket::FollowedSocket() {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* const name = reinterpret_cast<sockaddr*>(&address);
  if (bind(listener, name, length) != 0 || listen(listener, 1) != 0 ||
      getsockname(listener, name, &length) != 0)
    Die("listen");
  peer_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(peer_, name, length) != 0) Die("connect");
  fd_ = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  close(listener);
  SocketAdopted(fd_, Handover{}, /*key=*/0, /*uid=*/0);
  side_ = FindSide(fd_);
  if (side_ == nullptr) Die("not followed");
}

FollowedSocket::~FollowedSocket() {
  if (side_->attached.load() != 0) Detach();
  if (FindSide(fd_) == side_) {
    BeforeClose(fd_);
    close(fd_);
  }
  close(peer_);
}

bool FollowedSocket::Attach() {
  StartDoorbell();
  side_->owner_pid.store(process_state.pid);
  for (FifoMapping* mapping : {&mine_, &theirs_}) {
    Ticket ticket;
    if (LocalTransport().create_fifo(4096, mapping, &ticket) != 0) Die("FIFO");
    close(ticket.fds[0]);
  }
  if (!PrepareRegistrations(side_)) {
    RestoreRegistrations(side_);
    return false;
  }
  SocketShadow shadow(fd_, side_);
  LockScope send(side_->send.lock, CurrentTid());
  LockScope receive(side_->receive.lock, CurrentTid());
  side_->talk.store(kMaxTalks);  // rings nobody: the test is the peer
  side_->attached.store(1);
  side_->receive.BecomeAware(theirs_.fifo);
  side_->send.Offer(mine_.fifo);
  WriteBell(side_);
  mine_.fifo.header->consumer_ready.store(1);
  side_->send.SwitchUp(shadow);
  theirs_.fifo.header->switch_offset.store(static_cast<uint64_t>(shadow.Read()));
  theirs_.fifo.header->up.store(1);
  side_->receive.Advance(shadow);
  peers_known_consumer_ = 0;
  return true;
}

void FollowedSocket::Detach() {
  side_->receive.fifo.header->consumer.store(side_->receive.fifo.header->producer.load());
  FallBack(fd_, side_, Reason::kMarkedPoint);
  side_->receive.DropResidue();
  RestoreRegistrations(side_);
  side_->send.fifo = side_->receive.fifo = Fifo{};
  side_->attached.store(0);
  LocalTransport().release_fifo(&mine_);
  LocalTransport().release_fifo(&theirs_);
}

void FollowedSocket::PeerPublishes(const std::string& text) {
  const iovec iov{const_cast<char*>(text.data()), text.size()};
  IovCursor source(&iov, 1);
  theirs_.fifo.Produce(source, peers_known_consumer_, 0);
}

void FollowedSocket::PeerSendsByName(const std::string& text) {
  PeerPublishes(text);
  if (WakeSleepers(theirs_.fifo.header->consumer_waiting) != 0)
    EachBellIn(theirs_.fifo.header->consumer_bell.load(), RingOwnBell);
}

void FollowedSocket::PeerSends(const std::string& text) { PeerSends(text, agent_shared.doorbell); }

void FollowedSocket::PeerSends(const std::string& text, const Doorbell& doorbell) {
  PeerPublishes(text);
  if (WakeSleepers(theirs_.fifo.header->consumer_waiting) != 0) RingDoorbell(doorbell);
}

void FollowedSocket::PeerSendsByTcp(const std::string& text) {
  if (send(peer_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) Die("send");
}

bool FollowedSocket::OnFifos() const {
  return side_->send.route.load() == SendRoute::kFifo &&
         side_->receive.route.load() == ReceiveRoute::kFifo;
}

int WaitForExit(int pid) {
  int status = -1;
  if (waitpid(pid, &status, 0) != pid) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

void AwaitSleep(int tid) {
  char state = '?';
  while (state != 'S') {
    std::ifstream stat("/proc/self/task/" + std::to_string(tid) + "/stat");
    std::string text;
    std::getline(stat, text);
    state = text[text.rfind(')') + 2];
  }
}
void AwaitSleeper(int tid) {
  while (agent_shared.doorbell.page->sleepers.load() == 0) sched_yield();
  AwaitSleep(tid);
}

bool IsAsked(Side* side) {
  const LockScope scope(side->receive.lock, CurrentTid());
  return (side->receive.fifo.header->consumer_waiting.load() & kFutexSleeper) != 0;
}

void AwaitSleeperOnFifo(int tid, Side* side) {
  while (!IsAsked(side)) sched_yield();
  AwaitSleep(tid);
}

bool SetHolds(int epfd, int fd) {
  std::ifstream info("/proc/self/fdinfo/" + std::to_string(epfd));
  for (std::string word; info >> word;) {
    int member = -1;
    if (word == "tfd:" && info >> member && member == fd) return true;
  }
  return false;
}

}  // namespace xenloop

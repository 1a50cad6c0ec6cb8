// The test's side of a peer: starting it, passing commands, judging replies.

#include "tests/conformance/peer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <vector>

#include "tests/conformance/peer_server.h"

namespace conformance {
namespace {

std::vector<int>& Kept() {
  static std::vector<int> kept;
  return kept;
}

}  // namespace

bool PeerHasItsOwnNamespace() { return getenv("XENLOOP_CONFORMANCE_PEER_NAMESPACE") != nullptr; }

void EnterPeerNamespace(bool there) {
  if (!PeerHasItsOwnNamespace()) return;
  static const FileDescriptor own(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  static const FileDescriptor of_peers(
      open(getenv("XENLOOP_CONFORMANCE_PEER_NAMESPACE"), O_RDONLY | O_CLOEXEC));
  if (setns((there ? of_peers : own).get(), CLONE_NEWNET) != 0) {
    perror("the peers' network namespace");
    exit(2);
  }
}

void KeepFromPeers(int fd) { Kept().push_back(fd); }

void ForgetKept(int fd) {
  Kept().erase(std::remove(Kept().begin(), Kept().end(), fd), Kept().end());
}

void CloseKept() {
  for (const int fd : Kept()) close(fd);
}

Peer::Peer(Place place, const PeerStart& start) {
  int ends[2] = {-1, -1};
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  control_ = FileDescriptor(ends[0]);
  KeepFromPeers(ends[0]);
  if (place == Place::kProcess) {
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      alarm(30);
      CloseKept();
      EnterPeerNamespace(true);
      ServePeer(ends[1], start);
      _exit(0);
    }
    close(ends[1]);
  } else {
    // The tests' signals are for the tests' threads.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int control = ends[1];
    thread_ = std::thread([control, start] { ServePeer(control, start); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
}

Peer::~Peer() {
  ForgetKept(control_.get());
  control_.Close();
  if (thread_.joinable()) thread_.join();
  if (pid_ > 0) {
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
}

void Peer::Start(Op op, int64_t a, int64_t b, int64_t c) {
  Command command{};
  command.op = op;
  command.a = a;
  command.b = b;
  command.c = c;
  EXPECT_EQ(send(control_.get(), &command, sizeof(command), MSG_NOSIGNAL),
            static_cast<ssize_t>(sizeof(command)));
}

void Peer::StartSend(size_t total, Chunks chunks) {
  Start(Op::kSend, total, chunks.largest, chunks.marked_points);
}

void Peer::StartReceive(size_t total, Chunks chunks) {
  Start(Op::kReceive, total, chunks.largest, chunks.marked_points);
}

void Peer::StartText(const std::string& text, int flags) {
  Command command{};
  command.op = Op::kSendText;
  command.a = flags;
  command.text_length = text.copy(command.text, kTextBytes);
  EXPECT_EQ(send(control_.get(), &command, sizeof(command), MSG_NOSIGNAL),
            static_cast<ssize_t>(sizeof(command)));
}

bool Peer::StillBlocked() const {
  if (Revents(control_.get(), POLLIN, 0) == 0) WaitUntilAsleep(tid_);
  return Revents(control_.get(), POLLIN, kBlockedMs) == 0;
}

Reply Peer::WaitForConnection() {
  const Reply reply = Wait();
  tid_ = static_cast<pid_t>(reply.result);
  return reply;
}

Reply Peer::Wait() {
  Reply reply{};
  ssize_t received;
  do {
    received = recv(control_.get(), &reply, sizeof(reply), 0);
  } while (received < 0 && errno == EINTR);
  EXPECT_EQ(received, static_cast<ssize_t>(sizeof(reply))) << "the peer has gone";
  return reply;
}

Reply Peer::Do(Op op, int64_t a, int64_t b, int64_t c) {
  Start(op, a, b, c);
  return Wait();
}

void Peer::ExpectMoved(size_t total) {
  const Reply reply = Wait();
  EXPECT_EQ(static_cast<size_t>(reply.result), total);
  EXPECT_EQ(reply.error, 0) << strerror(reply.error);
}

void Peer::Send(size_t total, Chunks chunks) {
  StartSend(total, chunks);
  ExpectMoved(total);
}

void Peer::Receive(size_t total, Chunks chunks) {
  StartReceive(total, chunks);
  ExpectMoved(total);
}

void Peer::ReceiveEndOfStream() {
  StartReceive(kToEnd);
  ExpectMoved(0);
}

void Peer::SendText(const std::string& text, int flags) {
  StartText(text, flags);
  ExpectMoved(text.size());
}

void Peer::ReceiveText(const std::string& text) {
  const Reply reply = Do(Op::kReceiveText, text.size());
  EXPECT_EQ(std::string(reply.text, reply.text_length), text);
}

void Peer::Shutdown(int how) { EXPECT_EQ(Do(Op::kShutdown, how).error, 0); }
void Peer::Close() { EXPECT_EQ(Do(Op::kClose).error, 0); }
void Peer::Reset() { EXPECT_EQ(Do(Op::kReset).error, 0); }

void Peer::SetOption(int level, int name, int value) {
  EXPECT_EQ(Do(Op::kSetOption, level, name, value).error, 0);
}

void Peer::Kill() {
  ASSERT_GT(pid_, 0);
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

}  // namespace conformance

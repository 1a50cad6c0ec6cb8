// See contract.h.
#include "tests/contract/contract.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "channel/local/local_transport.h"
#include "tests/contract/fake_xen.h"
#include "tests/contract/in_process_transport.h"

namespace xenloop {

struct Peer::Thread {
  std::thread thread;
  bool content = false;
};

Peer::Peer(bool as_process, const std::function<bool()>& peer) {
  if (as_process) {
    pid_ = fork();
    if (pid_ == 0) _exit(peer() ? 0 : 1);
    return;
  }
  thread_ = new Thread;
  thread_->thread = std::thread([this, peer] { thread_->content = peer(); });
}

Peer::~Peer() {
  if (thread_ != nullptr || pid_ > 0) Join();
}

bool Peer::Join() {
  if (thread_ != nullptr) {
    thread_->thread.join();
    const bool content = thread_->content;
    delete thread_;
    thread_ = nullptr;
    return content;
  }
  int status = 1;
  if (pid_ > 0) waitpid(pid_, &status, 0);
  pid_ = -1;
  return status == 0;
}

void Peer::Kill() {
  if (pid_ > 0) kill(pid_, SIGKILL);
}

void TransportTest::MakeDoorbell(Doorbell* mine, Doorbell* theirs) {
  Ticket ticket;
  ASSERT_EQ(transport().create_doorbell(mine, &ticket), 0);
  // The ticket's first descriptor is the doorbell itself: a copy travels.
  if (ticket.fds[0] >= 0) ticket.fds[0] = fcntl(ticket.fds[0], F_DUPFD_CLOEXEC, 0);
  ASSERT_EQ(transport().map_doorbell(&ticket, theirs), 0);
}

INSTANTIATE_TEST_SUITE_P(
    Transports, TransportTest,
    testing::Values(Arrangement{"InProcess", InProcessTransport, false},
                    Arrangement{"LocalOneProcess", LocalTransport, false},
                    Arrangement{"LocalTwoProcesses", LocalTransport, true},
                    Arrangement{"FakeXenOneProcess", FakeXenTransport, false, FakeHeard},
                    Arrangement{"FakeXenTwoProcesses", FakeXenTransport, true, FakeHeard}),
    [](const auto& instance) { return std::string(instance.param.name); });

}  // namespace xenloop

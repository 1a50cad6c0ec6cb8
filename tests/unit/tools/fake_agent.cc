// A thread with a listening socket; see fake_agent.h.

#include "tests/unit/tools/fake_agent.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace xenloop::tools {
namespace {

void Require(bool condition, const char* what) {
  if (condition) return;
  std::perror(what);
  std::abort();
}

int NewSocket() {
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  Require(fd >= 0, "socket");
  return fd;
}

std::string FreshId() {
  static std::atomic<unsigned> counter{0};
  return absl::StrFormat("%08x%08x", static_cast<unsigned>(getpid()), ++counter);
}

}  // namespace

FakeAgent::FakeAgent(AgentAddress address, Manner manner, std::vector<std::string> packets)
    : address_(std::move(address)), manner_(manner), packets_(std::move(packets)) {
  sockaddr_un name;
  const std::optional<socklen_t> length = address_.ToSockaddr(&name);
  Require(length.has_value(), "address");
  listener_ = NewSocket();
  stop_ = eventfd(0, EFD_CLOEXEC);
  const sockaddr* const generic = reinterpret_cast<const sockaddr*>(&name);
  Require(bind(listener_, generic, *length) == 0, "bind");
  Require(listen(listener_, manner == Manner::kNeverAccepts ? 0 : 64) == 0, "listen");
  if (manner == Manner::kNeverAccepts) {
    int filler;
    do {
      filler = NewSocket();
      backlog_.push_back(filler);
    } while (connect(filler, generic, *length) == 0);
    Require(errno == EAGAIN, "fill the backlog");
    return;
  }
  thread_ = std::thread([this] { Serve(); });
}

FakeAgent::~FakeAgent() {
  const uint64_t one = 1;
  Require(write(stop_, &one, sizeof(one)) == sizeof(one), "eventfd");
  if (thread_.joinable()) thread_.join();
  for (const int fd : backlog_) close(fd);
  close(listener_);
  close(stop_);
  if (!address_.abstract) unlink(address_.name.c_str());
}

std::vector<std::string> FakeAgent::requests() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return requests_;
}

void FakeAgent::Serve() {
  for (;;) {
    pollfd polled[] = {{listener_, POLLIN, 0}, {stop_, POLLIN, 0}};
    poll(polled, 2, -1);
    if (polled[1].revents != 0) return;
    const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) continue;
    Converse(connection);
    close(connection);
  }
}

void FakeAgent::Converse(int connection) {
  char buffer[256];
  const ssize_t got = recv(connection, buffer, sizeof(buffer), 0);
  if (got <= 0) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    requests_.emplace_back(buffer, static_cast<size_t>(got));
  }
  if (manner_ != Manner::kSilent) {
    do {
      for (const std::string& packet : packets_) {
        if (send(connection, packet.data(), packet.size(), MSG_NOSIGNAL) < 0) return;
      }
    } while (manner_ == Manner::kFloods);
  }
  if (manner_ == Manner::kHangsUp) return;
  pollfd polled[] = {{connection, POLLIN, 0}, {stop_, POLLIN, 0}};
  poll(polled, 2, -1);
}

AgentAddress FreshAddress() {
  return *ParseAgentName(absl::StrCat("@xenloop/", geteuid(), "/", FreshId()));
}

AgentAddress FreshRealmAddress(const std::string& directory) {
  const std::string own = absl::StrCat(directory, "/xenloop-", geteuid());
  mkdir(own.c_str(), 0700);
  return *ParseAgentName(absl::StrCat(own, "/", FreshId(), ".sock"));
}

std::string ProcessPacket(const std::string& program) {
  return absl::StrFormat(
      R"({"process":{"pid":1,"program":"%s","version":"0.1.0","streams":2,"connections":5,)"
      R"("upgraded":3,"fallbacks":{"splice":1}}})",
      program);
}

std::string StreamPacket(const std::string& local, const std::string& peer,
                         const std::string& route, const std::string& reason) {
  return absl::StrFormat(
      R"({"pid":1,"program":"fake","fd":9,"local":"%s","peer":"%s","peer_pid":77,)"
      R"("route_send":"%s","route_receive":"%s","tcp_sent":10,"tcp_received":20,)"
      R"("fifo_sent":3000000,"fifo_received":40,"upgrades":1,"fallbacks":0,"reason":"%s"})",
      local, peer, route, route, reason);
}

std::string EndPacket() { return R"({"end":true})"; }

}  // namespace xenloop::tools

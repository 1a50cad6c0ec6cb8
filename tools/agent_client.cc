// One poll loop over up to AskLimits::concurrent_agents conversations; see agent_client.h.

#include "tools/agent_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "tools/agent_answer.h"

namespace xenloop::tools {
namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

constexpr size_t kLongestPacketBytes = 64 * 1024;
constexpr Milliseconds kConnectRetry(10);  // room in a backlog or among descriptors is not polled

// The user whose agent may listen at `agent`: the one in its name or, in a realm, the owner of the
// directory (users of a container have other numbers outside of it).
bool MayListen(const AgentAddress& agent, uid_t uid) {
  if (uid == agent.claimed_uid) return true;
  if (agent.abstract) return false;
  struct stat status;
  const std::string directory = agent.name.substr(0, agent.name.rfind('/'));
  return lstat(directory.c_str(), &status) == 0 && status.st_uid == uid;
}

// One question to one agent. Owned by AskAgents(), used by its thread only.
class Conversation {
 public:
  Conversation(AgentAnswer* answer, absl::string_view request, const AskLimits& limits,
               Clock::time_point now)
      : answer_(answer),
        request_(request),
        limits_(limits),
        latest_end_(now + Milliseconds(limits.agent_ms)) {
    answer_->outcome = AskOutcome::kSilent;
    Heard(now);
    Advance(now, /*readable=*/false, /*budget_bytes=*/nullptr);
  }
  Conversation(const Conversation&) = delete;
  Conversation& operator=(const Conversation&) = delete;
  ~Conversation() {
    if (socket_ >= 0) close(socket_);
  }

  bool done() const { return done_; }
  // What to poll, or -1 while the connection waits for room in the agent's backlog.
  int fd_to_poll() const { return connected_ ? socket_ : -1; }
  Clock::time_point deadline(Clock::time_point now) const {
    const Clock::time_point silent =
        std::min(silent_since_ + Milliseconds(limits_.silence_ms), latest_end_);
    return connected_ ? silent : std::min(silent, now + kConnectRetry);
  }

  void Advance(Clock::time_point now, bool readable, size_t* budget_bytes) {
    if (!done_ && !connected_) Connect(now);
    if (!done_ && connected_ && readable) Receive(now, budget_bytes);
    if (!done_ && (now >= latest_end_ || now >= silent_since_ + Milliseconds(limits_.silence_ms))) {
      done_ = true;  // the outcome stays kSilent
    }
  }

 private:
  void Finish(AskOutcome outcome) {
    answer_->outcome = outcome;
    done_ = true;
  }
  void Heard(Clock::time_point now) { silent_since_ = now; }

  void Connect(Clock::time_point now) {
    sockaddr_un address;
    const std::optional<socklen_t> length = answer_->agent.ToSockaddr(&address);
    if (!length) return Finish(AskOutcome::kGone);
    if (socket_ < 0) socket_ = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (socket_ < 0) return;  // out of descriptors: Advance() tries again when others have finished
    if (connect(socket_, reinterpret_cast<const sockaddr*>(&address), *length) != 0) {
      if (errno == EAGAIN || errno == EINTR) return;  // backlog full: Advance() tries again
      const bool forbidden = errno == EACCES || errno == EPERM;
      return Finish(forbidden ? AskOutcome::kNotAllowed : AskOutcome::kGone);
    }
    ucred peer = {};
    socklen_t size = sizeof(peer);
    if (getsockopt(socket_, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
      return Finish(AskOutcome::kGone);
    }
    answer_->uid = peer.uid;
    answer_->pid = peer.pid;
    if (!MayListen(answer_->agent, peer.uid)) return Finish(AskOutcome::kImpostor);
    if (send(socket_, request_.data(), request_.size(), MSG_NOSIGNAL) < 0) {
      return Finish(AskOutcome::kGone);
    }
    connected_ = true;
    Heard(now);
  }

  // Takes what is there, but not for ever: a flood must not keep the other agents waiting.
  void Receive(Clock::time_point now, size_t* budget_bytes) {
    static char buffer[kLongestPacketBytes];
    for (int packets = 0; packets < 256 && !done_; ++packets) {
      const ssize_t got = recv(socket_, buffer, sizeof(buffer), MSG_TRUNC);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
      if (got <= 0) return Finish(AskOutcome::kCutShort);
      Heard(now);
      const size_t length = static_cast<size_t>(got);
      if (length > sizeof(buffer)) return Finish(AskOutcome::kCutShort);
      // Each packet also costs the string that holds it, or a million empty ones would be free.
      const size_t cost = length + sizeof(std::string);
      if (cost > *budget_bytes || kept_bytes_ + cost > limits_.agent_bytes) {
        return Finish(AskOutcome::kCutShort);
      }
      *budget_bytes -= cost;
      kept_bytes_ += cost;
      answer_->packets.emplace_back(buffer, length);
      if (IsLastPacket(answer_->packets.back())) Finish(AskOutcome::kComplete);
    }
  }

  AgentAnswer* const answer_;
  const absl::string_view request_;
  const AskLimits& limits_;
  const Clock::time_point latest_end_;
  Clock::time_point silent_since_;
  int socket_ = -1;
  bool connected_ = false;
  bool done_ = false;
  size_t kept_bytes_ = 0;
};

int MillisecondsUntil(Clock::time_point moment, Clock::time_point now) {
  const auto left = std::chrono::ceil<Milliseconds>(moment - now).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 60000));
}

}  // namespace

std::vector<AgentAnswer> AskAgents(const std::vector<AgentAddress>& agents,
                                   absl::string_view request, const AskLimits& limits) {
  std::vector<AgentAnswer> answers(agents.size());
  for (size_t i = 0; i < agents.size(); ++i) answers[i].agent = agents[i];
  const Clock::time_point end = Clock::now() + Milliseconds(limits.total_ms);
  size_t budget_bytes = limits.total_bytes;
  size_t next = 0;
  std::vector<std::unique_ptr<Conversation>> open;
  while (next < answers.size() || !open.empty()) {
    Clock::time_point now = Clock::now();
    if (now >= end) break;  // whoever is left counts as silent
    while (next < answers.size() && open.size() < limits.concurrent_agents) {
      open.push_back(std::make_unique<Conversation>(&answers[next++], request, limits, now));
    }
    std::vector<pollfd> polled;
    Clock::time_point wake = end;
    for (const auto& conversation : open) {
      polled.push_back({conversation->fd_to_poll(), POLLIN, 0});
      wake = std::min(wake, conversation->done() ? now : conversation->deadline(now));
    }
    poll(polled.data(), polled.size(), MillisecondsUntil(wake, now));
    now = Clock::now();
    for (size_t i = 0; i < open.size(); ++i) {
      open[i]->Advance(now, polled[i].revents != 0, &budget_bytes);
    }
    open.erase(std::remove_if(open.begin(), open.end(),
                              [](const auto& conversation) { return conversation->done(); }),
               open.end());
  }
  return answers;
}

const char* DescribeOutcome(AskOutcome outcome) {
  switch (outcome) {
    case AskOutcome::kComplete:
      return "answered";
    case AskOutcome::kCutShort:
      return "broke off its answer";
    case AskOutcome::kSilent:
      return "does not answer";
    case AskOutcome::kGone:
      return "has gone";
    case AskOutcome::kNotAllowed:
      return "may not be asked by you";
    case AskOutcome::kImpostor:
      return "is not who its name says";
  }
  return "";
}

}  // namespace xenloop::tools

// See position.h.
#include "discovery/daemon/rendezvous/position.h"

#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "discovery/daemon/rendezvous/bridge.h"

namespace xenloop {
namespace {

constexpr uint32_t kMagic = 0x584c574c;  // "XLWL"
constexpr uint32_t kVersion = 1;
constexpr std::chrono::milliseconds kAskAgain{200};
constexpr std::chrono::seconds kAskFor{3};  // then the agent asks anew
constexpr std::chrono::seconds kAnswerWithin{1};
// Of strangers: what a question costs is a look at the sockets and a talk to an agent.
constexpr int kMostQuestionsASecond = 1000;
constexpr size_t kMostAsking = 128;
constexpr int kMostDatagramsAtOnce = 64;

sockaddr_storage AddressOf(const Endpoint& end, int family, uint16_t port) {
  sockaddr_storage address = {};
  if (family == AF_INET) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(address);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    memcpy(&v4.sin_addr, end.address + 12, 4);
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(address);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    memcpy(&v6.sin6_addr, end.address, 16);
  }
  return address;
}

}  // namespace

// In the machine's byte order: guests of Xen are x86, or both ends are what the other is.
struct PositionExchange::Datagram {
  uint32_t magic = kMagic;
  uint32_t version = kVersion;
  uint32_t is_answer = 0;
  uint32_t slot = 0;  // of who asks
  uint32_t generation = 0;
  Tuple tuple;  // as who is asked sees it
  uint64_t identity = 0;
  uint64_t consumed = 0;  // of the answer
};

PositionExchange::~PositionExchange() {
  for (const Asking& asking : asking_) close(asking.agent);
  if (socket_ >= 0) close(socket_);
}

absl::Status PositionExchange::Open(uint16_t port, const Endpoint* only) {
  // One socket for IPv6 and IPv4; where the kernel has no IPv6, for IPv4.
  for (const int family : {AF_INET6, AF_INET}) {
    const int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) continue;
    const int no = 0;
    if (family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    const sockaddr_storage address = AddressOf(only != nullptr ? *only : Endpoint{}, family, port);
    if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
      socket_ = fd;
      family_ = family;
      port_ = port;
      return absl::OkStatus();
    }
    const int error = errno;
    close(fd);
    errno = error;
  }
  return absl::UnavailableError(absl::StrCat("UDP port ", port, ": ", strerror(errno)));
}

void PositionExchange::Send(const Datagram& datagram, const sockaddr_storage& to) const {
  const socklen_t length = family_ == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  // What is lost is asked again.
  static_cast<void>(sendto(socket_, &datagram, sizeof datagram, MSG_DONTWAIT | MSG_NOSIGNAL,
                           reinterpret_cast<const sockaddr*>(&to), length));
}

void PositionExchange::SendQuestion(const Asked& asked) const {
  Datagram datagram;
  datagram.slot = asked.question.sender_slot;
  datagram.generation = asked.question.sender_generation;
  datagram.tuple = asked.question.tuple;
  datagram.identity = asked.question.words[0];
  const Endpoint& there = asked.question.tuple.local;
  if (family_ == AF_INET && !there.IsV4()) return;
  Send(datagram, AddressOf(there, family_, port_));
}

void PositionExchange::Ask(int agent, const ControlMessage& question) {
  if (socket_ < 0) return;
  asked_.remove_if([&](const Asked& before) {
    return before.agent == agent && before.question.sender_slot == question.sender_slot;
  });
  const Clock::time_point now = Clock::now();
  asked_.push_back({agent, question, now + kAskAgain, now + kAskFor});
  SendQuestion(asked_.back());
}

void PositionExchange::Forget(int agent) {
  asked_.remove_if([agent](const Asked& asked) { return asked.agent == agent; });
}

bool PositionExchange::MayTakeOneMore() {
  const Clock::time_point now = Clock::now();
  if (now - second_ > std::chrono::seconds(1)) {
    second_ = now;
    in_second_ = 0;
  }
  return asking_.size() < kMostAsking && ++in_second_ <= kMostQuestionsASecond;
}

void PositionExchange::OnQuestion(const Datagram& datagram, const sockaddr_storage& from) {
  if (!MayTakeOneMore()) return;
  for (const Asking& asking : asking_) {
    if (asking.question.words[0] == datagram.identity) return;  // it has been passed on
  }
  Asking asking = {};
  asking.agent = connect_(datagram.tuple);
  if (asking.agent < 0) return;
  asking.from = from;
  asking.question.type = ControlType::kWhere;
  asking.question.sender_slot = datagram.slot;
  asking.question.sender_generation = datagram.generation;
  asking.question.tuple = datagram.tuple;
  asking.question.words[0] = datagram.identity;
  asking.end = Clock::now() + kAnswerWithin;
  if (WritePacket(asking.agent, asking.question)) {
    asking_.push_back(asking);
  } else {
    close(asking.agent);
  }
}

void PositionExchange::OnDatagram(const Datagram& datagram, const sockaddr_storage& from) {
  if (datagram.is_answer == 0) return OnQuestion(datagram, from);
  for (auto i = asked_.begin(); i != asked_.end(); ++i) {
    const ControlMessage& question = i->question;
    if (question.words[0] != datagram.identity || question.sender_slot != datagram.slot ||
        question.sender_generation != datagram.generation ||
        !SameTuple(question.tuple, datagram.tuple))
      continue;
    ControlMessage answer;
    answer.type = ControlType::kStands;
    answer.receiver_slot = datagram.slot;
    answer.receiver_generation = datagram.generation;
    answer.tuple = datagram.tuple;
    answer.words[0] = datagram.identity;
    answer.words[1] = datagram.consumed;
    static_cast<void>(WritePacket(i->agent, answer));
    asked_.erase(i);
    return;
  }
}

bool PositionExchange::Reply(const Asking& asking) const {
  ControlMessage answer;
  const ssize_t n = ReadPacket(asking.agent, &answer);
  if (n == -EAGAIN) return false;
  if (n <= 0 || answer.type != ControlType::kStands || answer.words[0] != asking.question.words[0])
    return true;  // it does not know
  Datagram datagram;
  datagram.is_answer = 1;
  datagram.slot = asking.question.sender_slot;
  datagram.generation = asking.question.sender_generation;
  datagram.tuple = asking.question.tuple;
  datagram.identity = answer.words[0];
  datagram.consumed = answer.words[1];
  Send(datagram, asking.from);
  return true;
}

void PositionExchange::AddWaits(std::vector<pollfd>* waits) const {
  waits->push_back({socket_, POLLIN, 0});
  for (const Asking& asking : asking_) waits->push_back({asking.agent, POLLIN, 0});
}

void PositionExchange::Turn() {
  for (int i = 0; socket_ >= 0 && i < kMostDatagramsAtOnce; ++i) {
    Datagram datagram;
    sockaddr_storage from = {};
    socklen_t length = sizeof from;
    const ssize_t n = recvfrom(socket_, &datagram, sizeof datagram, MSG_DONTWAIT | MSG_TRUNC,
                               reinterpret_cast<sockaddr*>(&from), &length);
    if (n < 0) break;
    if (n != sizeof datagram || datagram.magic != kMagic || datagram.version != kVersion ||
        datagram.identity == 0)
      continue;
    OnDatagram(datagram, from);
  }
  const Clock::time_point now = Clock::now();
  asking_.remove_if([&](const Asking& asking) {
    if (!Reply(asking) && now < asking.end) return false;
    close(asking.agent);
    return true;
  });
  for (Asked& asked : asked_) {
    if (now < asked.again) continue;
    asked.again = now + kAskAgain;
    SendQuestion(asked);
  }
  asked_.remove_if([now](const Asked& asked) { return now >= asked.end; });
}

}  // namespace xenloop

// An agent for tests: listens where a real one would and behaves as it is told, well or badly.

#pragma once

#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tools/agent_address.h"

namespace xenloop::tools {

enum class Manner {
  kAnswers,       // sends its packets and waits for the client to hang up
  kHangsUp,       // sends its packets and hangs up at once
  kSilent,        // reads the request and says nothing
  kNeverAccepts,  // its backlog is full
  kFloods,        // sends its packets again and again, for ever
};

class FakeAgent {
 public:
  FakeAgent(AgentAddress address, Manner manner, std::vector<std::string> packets = {});
  FakeAgent(const FakeAgent&) = delete;
  FakeAgent& operator=(const FakeAgent&) = delete;
  ~FakeAgent();

  const AgentAddress& address() const { return address_; }
  std::vector<std::string> requests() const;

 private:
  void Serve();
  void Converse(int connection);

  const AgentAddress address_;
  const Manner manner_;
  const std::vector<std::string> packets_;
  int listener_ = -1;
  int stop_ = -1;             // eventfd
  std::vector<int> backlog_;  // our own connections that fill it
  mutable std::mutex mutex_;  // guards requests_
  std::vector<std::string> requests_;
  std::thread thread_;
};

// An abstract address of this user that nobody else has.
AgentAddress FreshAddress();
// The same in a realm; makes DIR/xenloop-<uid>.
AgentAddress FreshRealmAddress(const std::string& directory);

// Well-formed packets.
std::string ProcessPacket(const std::string& program);
std::string StreamPacket(const std::string& local, const std::string& peer,
                         const std::string& route, const std::string& reason);
std::string EndPacket();

}  // namespace xenloop::tools

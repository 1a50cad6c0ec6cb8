// What the tools read of processes and files that they do not trust: agents' packets, lines of
// statistics, /proc/net/unix, executables, lists of libraries. Any bytes will do; what comes out is
// printable and short.
#include <memory>

#include "tests/fuzz/input.h"
#include "tools/agent_address.h"
#include "tools/agent_answer.h"
#include "tools/agent_client.h"
#include "tools/elf_file.h"
#include "tools/library_path.h"
#include "tools/run_statistics.h"
#include "tools/snapshot.h"

namespace xenloop::tools {
namespace {

bool IsPrintable(const std::string& text, size_t longest) {
  for (const char c : text) {
    if (c < ' ' || c > '~') return false;
  }
  return text.size() <= longest;
}

// A packet ends with an escape byte, so that one input holds several.
std::vector<std::string> Packets(const std::string& text) {
  std::vector<std::string> packets(1);
  for (const char c : text) {
    if (c == '\x1b') {
      packets.emplace_back();
    } else {
      packets.back() += c;
    }
  }
  return packets;
}

void ReadPackets(const std::string& text, bool complete) {
  AgentAnswer answer;
  answer.packets = Packets(text);
  answer.outcome = complete ? AskOutcome::kComplete : AskOutcome::kSilent;
  for (const std::string& packet : answer.packets) IsLastPacket(packet);
  const ProcessReport process = DecodeStat(answer);
  XENLOOP_REQUIRE(process.streams.size() <= answer.packets.size());
  XENLOOP_REQUIRE(process.fallbacks.size() <= 1000);
  XENLOOP_REQUIRE(IsPrintable(process.program, 200) && IsPrintable(process.refusal, 200));
  for (const auto& [reason, count] : process.fallbacks) {
    XENLOOP_REQUIRE(IsPrintable(reason, 200));
  }
  for (const StreamReport& stream : process.streams) {
    XENLOOP_REQUIRE(IsPrintable(stream.reason, 200) && IsPrintable(stream.local, 200));
    XENLOOP_REQUIRE(IsPrintable(stream.peer, 200) && IsPrintable(stream.route_send, 200));
  }
  const SwitchReport report = DecodeSwitch(answer);
  XENLOOP_REQUIRE(!report.obeyed || report.error.empty());
  MakeSnapshot({answer, answer});
}

void ReadNames(const std::string& text) {
  for (const AgentAddress& agent : AgentsInSocketTable(text)) {
    sockaddr_un address;
    const auto length = agent.ToSockaddr(&address);
    XENLOOP_REQUIRE(!length || *length <= sizeof address);
    XENLOOP_REQUIRE(ParseAgentName(agent.name).has_value());
  }
  if (const auto agent = ParseAgentName(text)) {
    sockaddr_un address;
    agent->ToSockaddr(&address);
  }
}

}  // namespace
}  // namespace xenloop::tools

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace xenloop::tools;
  xenloop::fuzz::Input input(bytes, size);
  const uint32_t which = input.Below(6);
  const std::string rest = input.Rest();
  // A copy of exactly that size: the address sanitizer guards its end.
  const std::unique_ptr<char[]> copy(new char[rest.size()]);
  memcpy(copy.get(), rest.data(), rest.size());
  const absl::string_view text(copy.get(), rest.size());
  switch (which) {
    case 0:
    case 1:
      ReadPackets(rest, which == 0);
      break;
    case 2:
      ParseElf(text).IgnoreError();
      break;
    case 3: {
      const RunStatistics statistics = SumStatistics(text);
      StatisticsTable(statistics, "program");
      StatisticsJson(statistics);
      break;
    }
    case 4:
      ReadNames(rest);
      break;
    default:
      PreloadEntries(text);
      PrependPreload("/lib/libxenloop.so", text).IgnoreError();
      NamesLibrary(text);
  }
  return 0;
}

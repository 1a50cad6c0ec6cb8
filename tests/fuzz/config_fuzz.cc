// The library's reading of /etc/xenloop.conf and of the environment, and the tools' check of the
// same text. Whatever stands there: values within bounds, strings that end, and what the tools call
// well-formed is what the library uses.
#include <memory>
#include <vector>

#include "channel/fifo.h"
#include "preload/settings/config.h"
#include "tests/fuzz/input.h"
#include "tools/config_check.h"

namespace xenloop::fuzz {
namespace {

void CheckBounds(const Config& config) {
  XENLOOP_REQUIRE(config.fifo_bytes >= kMinFifoBytes && config.fifo_bytes <= kMaxFifoBytes);
  XENLOOP_REQUIRE((config.fifo_bytes & (config.fifo_bytes - 1)) == 0);
  XENLOOP_REQUIRE(config.spin_us <= 1000000);
  XENLOOP_REQUIRE(strnlen(config.runtime_dir, sizeof config.runtime_dir) <
                  sizeof config.runtime_dir);
  XENLOOP_REQUIRE(strnlen(config.stats_file, sizeof config.stats_file) < sizeof config.stats_file);
  XENLOOP_REQUIRE(strnlen(config.log_file, sizeof config.log_file) < sizeof config.log_file);
  XENLOOP_REQUIRE(config.runtime_dir[0] == '/');
}

void CheckAgreement(const Config& config, const tools::ConfigFile& file) {
  // The last value that the tools accept counts, if they find nothing wrong.
  if (!file.problems.empty()) return;
  XENLOOP_REQUIRE((config.rules.problem == nullptr) == (file.rules.problem == nullptr));
  XENLOOP_REQUIRE(config.rules.port_count == file.rules.port_count &&
                  config.rules.address_count == file.rules.address_count &&
                  strcmp(config.rules.programs, file.rules.programs) == 0 &&
                  strcmp(config.rules.except_users, file.rules.except_users) == 0);
  if (const auto value = file.Value("enabled")) {
    XENLOOP_REQUIRE(config.enabled == tools::OnOrOff(*value));
  }
  if (const auto value = file.Value("offers")) {
    XENLOOP_REQUIRE(config.accept_offers == (*value == "accept"));
  }
  if (const auto value = file.Value("upgrade_after")) {
    XENLOOP_REQUIRE(config.upgrade_after == strtoull(value->c_str(), nullptr, 10));
  }
  if (const auto value = file.Value("spin_us")) {
    XENLOOP_REQUIRE(config.spin_us == strtoull(value->c_str(), nullptr, 10));
  }
  if (const auto value = file.Value("fifo_bytes")) {
    XENLOOP_REQUIRE(config.fifo_bytes == strtoull(value->c_str(), nullptr, 10));
  }
  if (const auto value = file.Value("runtime_dir")) {
    XENLOOP_REQUIRE(config.realm && *value == config.runtime_dir);
  }
  if (const auto value = file.Value("stats")) XENLOOP_REQUIRE(*value == config.stats_file);
  if (const auto value = file.Value("log")) XENLOOP_REQUIRE(*value == config.log_file);
}

}  // namespace
}  // namespace xenloop::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace xenloop;
  using namespace xenloop::fuzz;
  constexpr size_t kLongestFileBytes = 16383;
  const std::string text(reinterpret_cast<const char*>(bytes),
                         size < kLongestFileBytes ? size : kLongestFileBytes);
  // Copies of exactly that size: the address sanitizer guards their ends.
  const auto copy = [&text] {
    std::unique_ptr<char[]> memory(new char[text.size() + 1]);
    memcpy(memory.get(), text.c_str(), text.size() + 1);
    return memory;
  };
  const auto file = copy();
  Config from_file;
  ParseConfig(file.get(), &from_file);
  CheckBounds(from_file);
  CheckAgreement(from_file, tools::ParseConfig(text));

  // The same text, a variable a line.
  const auto variables = copy();
  std::vector<char*> environment{variables.get()};
  for (char* c = variables.get(); *c != '\0'; ++c) {
    if (*c != '\n') continue;
    *c = '\0';
    environment.push_back(c + 1);
  }
  environment.push_back(nullptr);
  Config from_environment;
  ParseEnvironment(environment.data(), &from_environment);
  CheckBounds(from_environment);
  return 0;
}

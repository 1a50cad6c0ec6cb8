// The program: checks that the mode's library is there (or is not), runs the tests under a
// watchdog, and says how to reproduce a failure. With --isolate each test runs in a process of its
// own, so that a hang or a crash does not hide the rest. With --role it is one half of a
// two-process transfer.

#include <gtest/gtest.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/conformance/mode.h"
#include "tests/conformance/pair.h"
#include "tests/conformance/peer.h"
#include "tests/conformance/two_process.h"

namespace conformance {
namespace {

// The watchdog's limit for one test (XENLOOP_CONFORMANCE_SECONDS).
unsigned TestSeconds() {
  const char* seconds = getenv("XENLOOP_CONFORMANCE_SECONDS");
  return seconds == nullptr ? 20 : static_cast<unsigned>(strtoul(seconds, nullptr, 10));
}

char running_test[256];
const char* program = "";

std::string ReproduceCommand(const std::string& test) {
  std::string command = "reproduce: ";
  for (const char* name :
       {"LD_PRELOAD", "XENLOOP_TEST_POINTS", "XENLOOP_UPGRADE_AFTER", "XENLOOP_OFFERS",
        "XENLOOP_PARK", "XENLOOP_CONFORMANCE_MODE", "XENLOOP_CONFORMANCE_SEED"}) {
    const char* value = getenv(name);
    if (value != nullptr) command += std::string(name) + "=" + value + " ";
  }
  return command + program + " --gtest_filter=" + test;
}

extern "C" void OnHang(int) {
  static constexpr char kSays[] = "\nHANG: the watchdog ends the run in test ";
  if (write(STDERR_FILENO, kSays, sizeof(kSays) - 1) < 0 ||
      write(STDERR_FILENO, running_test, strlen(running_test)) < 0 ||
      write(STDERR_FILENO, "\n", 1) < 0) {
    _exit(125);
  }
  _exit(124);
}

class Watchdog : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo& info) override {
    const std::string name = std::string(info.test_suite_name()) + "." + info.name();
    snprintf(running_test, sizeof(running_test), "%s", ReproduceCommand(name).c_str());
    alarm(TestSeconds());
  }

  void OnTestEnd(const testing::TestInfo& info) override {
    alarm(0);
    if (info.result()->Failed()) printf("%s\n", running_test);
  }

  void OnTestProgramEnd(const testing::UnitTest&) override {
    const SwitchCounts& counts = CountedSwitches();
    printf("mode %s, seed %u: %d upgrades, %d fallbacks, %d upgrades declined, %d timed out\n",
           ModeName(), Seed(), counts.upgrades.load(), counts.fallbacks.load(),
           counts.upgrades_declined.load(), counts.upgrades_timed_out.load());
  }
};

// A mode that is not what it says would make every other result worthless.
class ModeCheck : public testing::Environment {
  void SetUp() override {
    const FileDescriptor unconnected(socket(AF_INET, SOCK_STREAM, 0));
    const FileDescriptor listener = ListenOn(Loopback(AF_INET));
    const Address name = LocalName(listener.get());
    ASSERT_EQ(connect(unconnected.get(), name.get(), name.length), 0);
    const int routes = Routes(unconnected.get());
    if (CurrentMode() == Mode::kNative) {
      ASSERT_EQ(routes, -1) << "mode native, but the library is loaded";
    } else {
      ASSERT_NE(routes, -1) << "mode " << ModeName()
                            << ", but no library with test points: " << strerrorname_np(errno);
    }
  }

  void TearDown() override {
    const SwitchCounts& counts = CountedSwitches();
    EXPECT_EQ(counts.library_missing.load(), 0) << "marked points without a library";
  }
};

#ifndef GTEST_FLAG_GET  // before GoogleTest 1.11
#define GTEST_FLAG_GET(name) ::testing::GTEST_FLAG(name)
#endif

// The selected tests, as --gtest_list_tests prints them.
std::vector<std::string> SelectedTests() {
  const std::string command = "exec /proc/" + std::to_string(getpid()) +
                              "/exe --gtest_list_tests --gtest_filter='" + GTEST_FLAG_GET(filter) +
                              "'";
  std::vector<std::string> tests;
  std::string suite;
  char line[512];
  FILE* list = popen(command.c_str(), "r");
  while (list != nullptr && fgets(line, sizeof(line), list) != nullptr) {
    std::string name(line, strcspn(line, " #\n") == 0 ? 0 : strcspn(line, " #\n"));
    if (!name.empty()) {
      suite = name;
    } else {
      const char* test = line + strspn(line, " ");
      tests.push_back(suite + std::string(test, strcspn(test, " #\n")));
    }
  }
  if (list != nullptr) pclose(list);
  return tests;
}

// Runs every selected test in a process of its own; the exit status is that of the whole.
int RunIsolated() {
  const std::vector<std::string> tests = SelectedTests();
  std::vector<std::string> failed;
  for (const std::string& test : tests) {
    const pid_t pid = fork();
    if (pid == 0) {
      const std::string argument = "--gtest_filter=" + test;
      execl("/proc/self/exe", program, argument.c_str(), "--gtest_brief=1", nullptr);
      _exit(127);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
    printf("FAILED %s\n", test.c_str());
    failed.push_back(test);
  }
  printf("%zu tests, %zu failed:\n", tests.size(), failed.size());
  for (const std::string& test : failed) printf("%s\n", test.c_str());
  return failed.empty() && !tests.empty() ? 0 : 1;
}

}  // namespace
}  // namespace conformance

int main(int argc, char** argv) {
  using namespace conformance;  // NOLINT: main is this program's own
  program = argv[0];
  testing::InitGoogleTest(&argc, argv);
  setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);  // nothing is lost when the watchdog ends the run
  signal(SIGPIPE, SIG_IGN);
  CurrentMode();
  PrepareSwitchCounts();
  PreparePeers();
  for (int i = 1; i < argc; ++i) {
    if (strncmp(argv[i], "--role=", 7) == 0) return RunRole(argc, argv);
  }
  if (argc == 2 && strcmp(argv[1], "--isolate") == 0) return RunIsolated();
  if (argc != 1) {
    fprintf(stderr, "usage: %s [--isolate] [--gtest_filter=...]\n       %s %s\n", program, program,
            kRoleUsage);
    return 2;
  }
  struct sigaction action {};
  action.sa_handler = OnHang;
  action.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &action, nullptr);
  testing::AddGlobalTestEnvironment(new ModeCheck);
  testing::UnitTest::GetInstance()->listeners().Append(new Watchdog);
  return RUN_ALL_TESTS();
}

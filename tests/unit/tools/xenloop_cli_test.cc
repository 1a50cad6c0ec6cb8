// The real bin/xenloop, run as a user runs it, beside a stand-in for the library.

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/tools/fake_agent.h"
#include "tests/unit/tools/tool_test_support.h"

namespace xenloop::tools {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr char kReport[] =
    R"({"pid":1,"program":"p","connections":3,"upgraded":2,"tcp_sent":10,"tcp_received":20,)"
    R"("fifo_sent":30,"fifo_received":40,"fallbacks":{"splice":1}})";

// PREFIX/bin/xenloop and PREFIX/lib/libxenloop.so, as after an installation.
class XenloopCliTest : public testing::Test {
 protected:
  XenloopCliTest() {
    std::filesystem::create_directory(prefix_ / "bin");
    std::filesystem::create_directory(prefix_ / "lib");
    std::filesystem::copy_file(TEST_XENLOOP, tool_);
    std::filesystem::copy_file(TEST_LIBRARY, library_);
  }

  // Options for the environment may stand before: Xenloop("run x", "A=b").
  ShellResult Xenloop(const std::string& arguments, const std::string& variables = "") const {
    return Shell(absl::StrCat("env -u LD_PRELOAD -u XENLOOP_RUNTIME_DIR PATH=/usr/bin:/bin TMPDIR=",
                              prefix_.path(), " ", variables, " ", tool_, " ", arguments));
  }

  TemporaryDirectory prefix_;
  std::string tool_ = prefix_ / "bin/xenloop";
  std::string library_ = prefix_ / "lib/libxenloop.so";
};

TEST_F(XenloopCliTest, RunPutsTheLibraryInFrontAndSwitchesOn) {
  const ShellResult result =
      Xenloop("run sh -c 'echo $LD_PRELOAD $XENLOOP $XENLOOP_STATS'", "XENLOOP=off");
  EXPECT_EQ(result.output, library_ + " on\n");
  EXPECT_EQ(result.exit_status, 0);
}

TEST_F(XenloopCliTest, RunKeepsOtherPreloads) {
  const ShellResult result =
      // An instrumented tool would refuse to have a library loaded before its own.
      Xenloop("run printenv LD_PRELOAD",
              "LD_PRELOAD=libm.so.6 ASAN_OPTIONS=verify_asan_link_order=0");
  EXPECT_EQ(result.output, library_ + ":libm.so.6\n");
}

// The loader need not be there: what counts is that the tool knows, and says so.
TEST_F(XenloopCliTest, RunStartsAProgramOfAnotherLibcWithoutTheLibrary) {
  const std::string program = prefix_ / "program";
  std::filesystem::copy_file(TEST_MUSL_PROBE, program);
  EXPECT_THAT(Xenloop(absl::StrCat("run ", program, " 2>&1")).output,
              HasSubstr("does not use glibc (its loader is /lib/ld-musl-x86_64.so.1): started "
                        "without the library"));
  EXPECT_THAT(Xenloop(absl::StrCat("run ", TEST_PROBE, " 2>&1")).output,
              Not(HasSubstr("does not use glibc")));
}

TEST_F(XenloopCliTest, RunPassesEveryArgumentThrough) {
  const std::string arguments = " args --port 1 --stats --help -- '' 'a b' --json=x";
  const std::string expected = "--port\n1\n--stats\n--help\n--\n\na b\n--json=x\n";
  EXPECT_EQ(Xenloop(absl::StrCat("run ", TEST_PROBE, arguments)).output, expected);
  EXPECT_EQ(Xenloop(absl::StrCat("run --stats -- ", TEST_PROBE, arguments, " 2>/dev/null")).output,
            expected);
}

TEST_F(XenloopCliTest, ExitStatusesAreThoseOfAShell) {
  for (const char* stats : {"", "--stats "}) {
    const std::string run = absl::StrCat("run ", stats);
    EXPECT_EQ(Xenloop(absl::StrCat(run, TEST_PROBE, " exit 7 2>&1")).exit_status, 7);
    EXPECT_EQ(Xenloop(run + "true 2>&1").exit_status, 0);
    EXPECT_EQ(Xenloop(run + "no-such-program-anywhere 2>&1").exit_status, 127);
    EXPECT_EQ(Xenloop(run + "/ 2>&1").exit_status, 126);
    // The shell around it makes 128 + N of a death, which is what --stats does itself.
    EXPECT_EQ(Xenloop(absl::StrCat(run, TEST_PROBE, " die 15 2>&1; exit $?")).exit_status, 143);
    EXPECT_EQ(Xenloop(absl::StrCat(run, TEST_PROBE, " die 9 2>&1; exit $?")).exit_status, 137);
  }
}

TEST_F(XenloopCliTest, StatisticsGoToStandardErrorAfterTheProgramsOutput) {
  const ShellResult result =
      Xenloop("run --stats echo hello 2>&1", absl::StrCat("FAKE_REPORT='", kReport, "'"));
  EXPECT_THAT(result.output, StartsWith("hello\nxenloop: echo"));
  EXPECT_THAT(result.output, HasSubstr("received by FIFO   40 B"));
  EXPECT_EQ(Xenloop("run --stats echo hello 2>/dev/null").output, "hello\n");
}

TEST_F(XenloopCliTest, StatisticsAreSummedOverProcessesAndPrintedAsJson) {
  const ShellResult result =
      Xenloop(absl::StrCat("run --stats --json sh -c '", TEST_PROBE, " exit 0; ", TEST_PROBE,
                           " exit 0; exit 5' 2>&1 >/dev/null"),
              absl::StrCat("FAKE_REPORT='", kReport, "'"));
  EXPECT_EQ(result.exit_status, 5);
  const auto object = nlohmann::json::parse(result.output);
  EXPECT_EQ(object["processes"], 2);  // the shell ends by _exit, which the stand-in does not see
  EXPECT_EQ(object["fifo_received"], 80);
  EXPECT_EQ(object["fallbacks"]["splice"], 2);
}

TEST_F(XenloopCliTest, StatisticsFileIsPrivateAndDoesNotStay) {
  const ShellResult result = Xenloop(
      "run --stats sh -c 'stat -c %a $XENLOOP_STATS; stat -c %a $(dirname $XENLOOP_STATS)' "
      "2>/dev/null");
  // Root's may be appended to by workers that have given root up, under a name they were told.
  EXPECT_EQ(result.output, geteuid() == 0 ? "622\n711\n" : "600\n700\n");
  for (const auto& entry : std::filesystem::directory_iterator(prefix_.path())) {
    EXPECT_THAT(entry.path().filename().string(), Not(StartsWith("xenloop-stats")));
  }
}

TEST_F(XenloopCliTest, WorkerThatGaveUpRootCanReport) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  ASSERT_EQ(chmod(prefix_.path().c_str(), 0755), 0);
  const ShellResult result = Xenloop(
      absl::StrCat("run --stats --json setpriv --reuid 65534 --clear-groups /bin/true 2>&1"),
      absl::StrCat("FAKE_REPORT='", kReport, "'"));
  EXPECT_EQ(nlohmann::json::parse(result.output)["processes"], 1) << result.output;
}

TEST_F(XenloopCliTest, SignalsReachTheProgram) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ready[1], STDOUT_FILENO);
    close(STDERR_FILENO);
    execl(tool_.c_str(), "xenloop", "run", "--stats", TEST_PROBE, "wait", nullptr);
    _exit(99);
  }
  close(ready[1]);
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);  // the program waits for the signal
  ASSERT_EQ(kill(child, SIGUSR1), 0);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  close(ready[0]);
  ASSERT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(WEXITSTATUS(status), 9);
}

TEST_F(XenloopCliTest, IgnoredChildSignalDoesNotLoseTheExitStatus) {
  signal(SIGCHLD, SIG_IGN);
  const pid_t child = fork();
  if (child == 0) {
    close(STDOUT_FILENO);
    close(STDERR_FILENO);
    execl(tool_.c_str(), "xenloop", "run", "--stats", TEST_PROBE, "exit", "7", nullptr);
    _exit(99);
  }
  signal(SIGCHLD, SIG_DFL);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST_F(XenloopCliTest, WithoutTheLibraryRunSaysWhereItLooked) {
  std::filesystem::remove(library_);
  const ShellResult result = Xenloop("run true 2>&1");
  if (result.exit_status == 0) GTEST_SKIP() << "libxenloop.so is installed on this machine";
  EXPECT_EQ(result.exit_status, 125);
  EXPECT_THAT(result.output, HasSubstr(prefix_ / "bin/../lib/libxenloop.so"));
}

TEST_F(XenloopCliTest, StatShowsTheStreamsOfALiveAgent) {
  // In a realm, so that real agents on this machine do not matter to what is looked for here.
  const FakeAgent agent(FreshRealmAddress(prefix_.path()), Manner::kAnswers,
                        {ProcessPacket("cli-fake"),
                         StreamPacket("192.0.2.1:80", "192.0.2.2:4", "local", ""), EndPacket()});
  const std::string realm = "XENLOOP_RUNTIME_DIR=" + prefix_.path();
  const ShellResult table = Xenloop("stat", realm);
  EXPECT_EQ(table.exit_status, 0);
  EXPECT_THAT(table.output, HasSubstr("192.0.2.1:80"));
  EXPECT_THAT(table.output, HasSubstr("2.9 MiB"));
  const auto object = nlohmann::json::parse(Xenloop("stat --json", realm).output);
  bool found = false;
  for (const auto& process : object["processes"]) {
    if (process["program"] != "cli-fake") continue;
    found = true;
    EXPECT_EQ(process["pid"], getpid());
    EXPECT_EQ(process["streams"][0]["fifo_sent"], 3000000);
  }
  EXPECT_TRUE(found);
}

TEST_F(XenloopCliTest, WatchPrintsAgainUntilNobodyReads) {
  const ShellResult result = Xenloop("stat --watch --json --interval=0.1 | head -n 3");
  EXPECT_EQ(std::count(result.output.begin(), result.output.end(), '\n'), 3);
}

// Its first write fails, within fputs, since there is no buffer; later ones must not be tried.
TEST_F(XenloopCliTest, WatchEndsWhereNobodyReadsWithoutASignal) {
  const ShellResult result =
      Xenloop("stat --watch --json --interval=0.1 >/dev/full", "timeout 20 stdbuf -o0");
  EXPECT_EQ(result.exit_status, 1);
}

TEST_F(XenloopCliTest, DoctorExitStatusTellsProblems) {
  const ShellResult bad = Xenloop(absl::StrCat("doctor ", TEST_STATIC_PROBE));
  EXPECT_EQ(bad.exit_status, 1);
  EXPECT_THAT(bad.output, HasSubstr("linked statically"));
  const ShellResult missing = Xenloop("doctor no-such-program-anywhere");
  EXPECT_EQ(missing.exit_status, 1);
  EXPECT_THAT(missing.output, HasSubstr("is not an executable file here"));
}

TEST_F(XenloopCliTest, DoctorAsJsonHasTheMachineAndNoSecrets) {
  const ShellResult result = Xenloop(
      "doctor --json 2>&1", "XENLOOP_SPIN_US=20 PASSWORD=hidden1 XENLOOPED=hidden2 EDITOR=hidden3");
  const auto document = nlohmann::json::parse(result.output);
  for (const char* part : {"version", "library", "machine", "process", "realm", "shared_memory",
                           "settings", "agents", "xen", "findings", "problems"})
    EXPECT_TRUE(document.contains(part)) << part;
  EXPECT_EQ(document["library"]["path"], library_);
  EXPECT_EQ(document["settings"]["environment"]["XENLOOP_SPIN_US"], "20");
  EXPECT_THAT(document["machine"]["libc"].get<std::string>(), StartsWith("glibc 2."));
  EXPECT_GT(document["process"]["limits"]["descriptors"]["soft"], 0);
  EXPECT_THAT(document["process"]["namespaces"]["net"].get<std::string>(), StartsWith("net:["));
  EXPECT_EQ(document["process"]["sandbox"]["no_new_privileges"].get<std::string>().size(), 1u);
  EXPECT_FALSE(document["findings"].empty());
  EXPECT_EQ(document["problems"] == 0, result.exit_status == 0);
  EXPECT_THAT(result.output, Not(HasSubstr("hidden")));
}

TEST_F(XenloopCliTest, HelpVersionAndWrongUsage) {
  EXPECT_THAT(Xenloop("--help").output, StartsWith("NAME\n    xenloop - "));
  for (const char* command :
       {"run", "stat", "doctor", "off", "on", "leave", "arrive", "quiesce", "migrate"}) {
    const ShellResult help = Xenloop(absl::StrCat(command, " --help"));
    EXPECT_EQ(help.exit_status, 0) << command;
    EXPECT_THAT(help.output, HasSubstr(absl::StrCat("xenloop ", command)));
    EXPECT_EQ(Xenloop(absl::StrCat("help ", command)).output, help.output);
  }
  EXPECT_THAT(Xenloop("--version").output, StartsWith("xenloop "));
  for (const char* wrong : {"", "nonsense", "run", "stat --interval=0", "stat --nonsense",
                            "off now", "run --json true"}) {
    const ShellResult result = Xenloop(absl::StrCat(wrong, " 2>&1"));
    EXPECT_EQ(result.exit_status, 2) << wrong;
    EXPECT_THAT(result.output, StartsWith("xenloop: ")) << wrong;
  }
}

TEST(XenloopdTest, SaysThatThereIsNothingToDoWithoutXen) {
  const ShellResult help = Shell(std::string(TEST_XENLOOPD) + " --help");
  EXPECT_EQ(help.exit_status, 0);
  EXPECT_THAT(help.output, HasSubstr("--dom0"));
  EXPECT_NE(Shell(std::string(TEST_XENLOOPD) + " --daemon 2>&1").exit_status, 0);
  EXPECT_NE(Shell(std::string(TEST_XENLOOPD) + " operand 2>&1").exit_status, 0);
  const ShellResult peers =
      Shell(std::string(TEST_XENLOOPD) + " --peers --directory=/tmp/xenloop-absent 2>&1");
  EXPECT_EQ(peers.exit_status, 1);
  EXPECT_THAT(peers.output, HasSubstr("/tmp/xenloop-absent/peers"));
  if (access("/proc/xen", F_OK) == 0) GTEST_SKIP() << "this machine is a Xen guest";
  const ShellResult start = Shell(std::string(TEST_XENLOOPD) + " 2>&1");
  EXPECT_EQ(start.exit_status, 2);
  EXPECT_THAT(start.output, HasSubstr("no Xen guest"));
}

}  // namespace
}  // namespace xenloop::tools

// The doctor's findings, each with the situation that causes it.

#include "tools/doctor.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "discovery/protocol/reasons.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/tools/fake_agent.h"
#include "tests/unit/tools/tool_test_support.h"

namespace xenloop::tools {
namespace {

using testing::HasSubstr;
using testing::Not;

// A machine in order, in a directory of its own.
class DoctorTest : public testing::Test {
 protected:
  DoctorTest() {
    std::filesystem::create_directory(directory_ / "lib");
    std::filesystem::create_directory(directory_ / "shm");
    std::filesystem::copy_file(TEST_LIBRARY, directory_ / "lib/libxenloop.so");
    chmod((directory_ / "shm").c_str(), 01777);
    places_.library_candidates = {directory_ / "lib/libxenloop.so"};
    places_.config = directory_ / "xenloop.conf";
    places_.preload_file = directory_ / "ld.so.preload";
    places_.shared_memory = directory_ / "shm";
    places_.agents.proc_net_unix = "/dev/null";
    places_.limits.silence_ms = 500;
    program_.uid = geteuid();
  }

  std::string own_runtime() const {
    return absl::StrCat(places_.shared_memory, "/xenloop-", program_.uid);
  }

  TemporaryDirectory directory_;
  DoctorPlaces places_;
  ProgramSurroundings program_;
  Findings findings_;
};

#define EXPECT_PROBLEM(text)                                   \
  EXPECT_EQ(findings_.Problems(), 1u) << findings_.ToString(); \
  EXPECT_THAT(findings_.ToString(), HasSubstr("PROBLEM  "));   \
  EXPECT_THAT(findings_.ToString(), HasSubstr(text))
#define EXPECT_NO_PROBLEM() EXPECT_EQ(findings_.Problems(), 0u) << findings_.ToString()

TEST_F(DoctorTest, MachineInOrderHasNoProblem) {
  CheckLibrary(places_, &findings_);
  CheckPreloadFile(places_, &findings_);
  CheckConfiguration(places_, program_, &findings_);
  CheckRuntimeDirectory(places_, program_, &findings_);
  CheckKernelObjects(&findings_);
  CheckDescriptorLimit(4096, &findings_);
  EXPECT_NO_PROBLEM();
  EXPECT_THAT(findings_.ToString(), HasSubstr("can be preloaded"));
}

TEST_F(DoctorTest, LibraryMissing) {
  std::filesystem::remove(directory_ / "lib/libxenloop.so");
  CheckLibrary(places_, &findings_);
  EXPECT_PROBLEM("cannot find libxenloop.so");
}

TEST_F(DoctorTest, LibraryIsNoLibrary) {
  directory_.Write("lib/libxenloop.so", "text");
  CheckLibrary(places_, &findings_);
  EXPECT_PROBLEM("not an ELF file");
}

TEST_F(DoctorTest, LibraryCannotBeLoaded) {
  // Its headers are right and the rest is gone.
  std::filesystem::resize_file(directory_ / "lib/libxenloop.so", 1000);
  CheckLibrary(places_, &findings_);
  EXPECT_PROBLEM("cannot be preloaded");
}

TEST_F(DoctorTest, PreloadFileNamesAMissingFile) {
  directory_.Write("ld.so.preload", "# all\n/nonexistent/libxenloop.so\n");
  CheckPreloadFile(places_, &findings_);
  EXPECT_PROBLEM("does not exist: every program complains");
}

TEST_F(DoctorTest, PreloadFileWithOurLibraryIsFine) {
  directory_.Write("ld.so.preload", (directory_ / "lib/libxenloop.so") + "\n");
  CheckPreloadFile(places_, &findings_);
  EXPECT_NO_PROBLEM();
  EXPECT_THAT(findings_.ToString(), HasSubstr("into every program"));
}

TEST_F(DoctorTest, PreloadFileWithDollarLibIsReadAsTheLoaderReadsIt) {
  const std::string library = directory_ / XENLOOP_INSTALL_LIBDIR "/libxenloop.so";
  std::filesystem::create_directories(directory_ / XENLOOP_INSTALL_LIBDIR);
  directory_.Write(XENLOOP_INSTALL_LIBDIR "/libxenloop.so", "");
  places_.library_candidates = {library};
  for (const char* token : {"$LIB", "${LIB}"}) {
    directory_.Write("ld.so.preload", directory_ / token + "/libxenloop.so\n");
    CheckPreloadFile(places_, &findings_);
    EXPECT_NO_PROBLEM();
    EXPECT_THAT(findings_.ToString(), testing::Not(HasSubstr("this tool uses")));
  }
}

TEST_F(DoctorTest, GarbledConfigurationIsShownByLine) {
  directory_.Write("xenloop.conf", "enabled = on\nwhat is this\n");
  CheckConfiguration(places_, program_, &findings_);
  EXPECT_PROBLEM("xenloop.conf line 2: \"what is this\"");
}

TEST_F(DoctorTest, SwitchedOffByTheFile) {
  directory_.Write("xenloop.conf", "enabled = off\n");
  CheckConfiguration(places_, program_, &findings_);
  EXPECT_PROBLEM("switched off by");
}

TEST_F(DoctorTest, TheEnvironmentComesBeforeTheFile) {
  directory_.Write("xenloop.conf", "enabled = off\n");
  program_.environment = {"XENLOOP=on"};
  CheckConfiguration(places_, program_, &findings_);
  EXPECT_NO_PROBLEM();
  program_.environment = {"XENLOOP=no"};
  CheckConfiguration(places_, program_, &findings_);
  EXPECT_PROBLEM("the environment (XENLOOP=no)");
}

TEST_F(DoctorTest, OffersRefused) {
  program_.environment = {"XENLOOP_OFFERS=refuse"};
  CheckConfiguration(places_, program_, &findings_);
  EXPECT_PROBLEM("every offer is refused");
}

TEST_F(DoctorTest, WhereUdpGoes) {
  CheckDatagrams(places_, program_, &findings_);
  EXPECT_THAT(findings_.ToString(), HasSubstr("UDP goes by the kernel (udp = off)"));
  directory_.Write("xenloop.conf", "udp = on\n");
  Findings on;
  CheckDatagrams(places_, program_, &on);
  EXPECT_THAT(on.ToString(), Not(HasSubstr("udp = off")));
  EXPECT_THAT(on.ToString(), HasSubstr("UDP "));
  program_.environment = {"XENLOOP_UDP=off"};
  Findings off;
  CheckDatagrams(places_, program_, &off);
  EXPECT_THAT(off.ToString(), HasSubstr("udp = off"));
  EXPECT_NO_PROBLEM();
}

TEST_F(DoctorTest, GarbledVariable) {
  program_.environment = {"XENLOOP_SPIN_US=soon", "XENLOOP_COLOUR=red"};
  CheckConfiguration(places_, program_, &findings_);
  EXPECT_PROBLEM("XENLOOP_SPIN_US: \"soon\" is not a whole number");
  EXPECT_THAT(findings_.ToString(), HasSubstr("XENLOOP_COLOUR means nothing"));
}

TEST_F(DoctorTest, RulesThatTheProgramMeets) {
  directory_.Write("xenloop.conf", "except_programs = sshd\nexcept_ports = 22\n");
  program_.executable = "/usr/sbin/nginx";
  CheckConfiguration(places_, program_, &findings_);
  EXPECT_NO_PROBLEM();
  program_.executable = "/usr/sbin/sshd";
  CheckConfiguration(places_, program_, &findings_);
  EXPECT_PROBLEM("program excepted by configuration");
}

TEST_F(DoctorTest, SwitchedOffForTheWholeMachine) {
  places_.switched_off = directory_.Write("off", "");
  CheckConfiguration(places_, program_, &findings_);
  EXPECT_PROBLEM("switched off for the whole machine");
}

TEST_F(DoctorTest, VariablesOfTheTestsAreNoRiddle) {
  program_.environment = {"XENLOOP_BUILD=/x", "XENLOOP_CI=1"};
  CheckConfiguration(places_, program_, &findings_);
  EXPECT_THAT(findings_.ToString(), Not(HasSubstr("means nothing")));
}

TEST_F(DoctorTest, SmallAddressSpace) {
  CheckAddressSpace(RLIM_INFINITY, &findings_);
  EXPECT_NO_PROBLEM();
  CheckAddressSpace(uint64_t{1} << 30, &findings_);
  EXPECT_PROBLEM("limited to 1024 MiB");
}

TEST_F(DoctorTest, RuntimeDirectoryMissing) {
  program_.environment = {absl::StrCat("XENLOOP_RUNTIME_DIR=", directory_ / "realm")};
  CheckRuntimeDirectory(places_, program_, &findings_);
  EXPECT_PROBLEM(absl::StrCat("mkdir -m 1777 ", directory_ / "realm"));
}

TEST_F(DoctorTest, RuntimeDirectoryOfTheFileIsUsed) {
  directory_.Write("xenloop.conf", "runtime_dir = /nonexistent/realm\n");
  CheckRuntimeDirectory(places_, program_, &findings_);
  EXPECT_PROBLEM("/nonexistent/realm does not exist");
}

TEST_F(DoctorTest, RuntimeDirectoryOfSomebodyElse) {
  program_.uid = geteuid() + 1;
  std::filesystem::create_directory(own_runtime());
  CheckRuntimeDirectory(places_, program_, &findings_);
  EXPECT_PROBLEM(absl::StrCat("belongs to user ", geteuid()));
}

TEST_F(DoctorTest, RuntimeDirectoryIsAFileOrALink) {
  ASSERT_EQ(symlink("/tmp", own_runtime().c_str()), 0);
  CheckRuntimeDirectory(places_, program_, &findings_);
  EXPECT_PROBLEM("is not a directory");
}

TEST_F(DoctorTest, RuntimeDirectoryOpenToOthers) {
  std::filesystem::create_directory(own_runtime());
  ASSERT_EQ(chmod(own_runtime().c_str(), 0777), 0);
  CheckRuntimeDirectory(places_, program_, &findings_);
  EXPECT_PROBLEM("can be written by other users");
}

TEST_F(DoctorTest, HintsFileIsSomethingElse) {
  std::filesystem::create_directory(own_runtime());
  ASSERT_EQ(chmod(own_runtime().c_str(), 0755), 0);
  ASSERT_EQ(symlink("/etc/passwd", (own_runtime() + "/hints").c_str()), 0);
  CheckRuntimeDirectory(places_, program_, &findings_);
  EXPECT_PROBLEM("hints is not a writable file");
}

TEST_F(DoctorTest, RuntimeDirectoryNotWritable) {
  ASSERT_EQ(chmod(places_.shared_memory.c_str(), 0755), 0);
  program_.uid = geteuid() + 1;
  CheckRuntimeDirectory(places_, program_, &findings_);
  EXPECT_PROBLEM("is not writable for user");
}

TEST_F(DoctorTest, RuntimeDirectoryWithoutStickyBit) {
  ASSERT_EQ(chmod(places_.shared_memory.c_str(), 0777), 0);
  CheckRuntimeDirectory(places_, program_, &findings_);
  EXPECT_PROBLEM("anybody can remove anybody's files");
}

TEST_F(DoctorTest, RealmWithTooLongAName) {
  const std::string realm = directory_ / std::string(80, 'r');
  std::filesystem::create_directory(realm);
  program_.environment = {absl::StrCat("XENLOOP_RUNTIME_DIR=", realm)};
  CheckRuntimeDirectory(places_, program_, &findings_);
  EXPECT_PROBLEM("too long a name");
}

TEST_F(DoctorTest, FewDescriptors) {
  CheckDescriptorLimit(512, &findings_);
  EXPECT_NO_PROBLEM();
  CheckDescriptorLimit(20, &findings_);
  EXPECT_PROBLEM("ulimit -n");
}

TEST_F(DoctorTest, PreloadVariableNamesAMissingFile) {
  program_.environment = {"LD_PRELOAD=/nonexistent/libxenloop.so:libm.so.6"};
  CheckPreloadVariable(program_, &findings_);
  EXPECT_PROBLEM("LD_PRELOAD names /nonexistent/libxenloop.so");
}

TEST_F(DoctorTest, OrdinaryProgramIsFine) {
  CheckExecutable(TEST_PROBE, "probe", 1000, "", &findings_);
  EXPECT_NO_PROBLEM();
}

TEST_F(DoctorTest, StaticProgram) {
  CheckExecutable(TEST_STATIC_PROBE, "probe", 1000, "", &findings_);
  EXPECT_PROBLEM("linked statically");
}

TEST_F(DoctorTest, GoProgram) {
  CheckExecutable(TEST_GO_PROBE, "probe", 1000, "", &findings_);
  EXPECT_PROBLEM("written in Go");
}

TEST_F(DoctorTest, ProgramOfAnotherLibc) {
  CheckExecutable(TEST_MUSL_PROBE, "probe", 1000, "", &findings_);
  EXPECT_PROBLEM("does not use glibc");
}

TEST_F(DoctorTest, SetuidProgramOnlyForOtherUsers) {
  const std::string program = directory_ / "probe";
  std::filesystem::copy_file(TEST_PROBE, program);
  ASSERT_EQ(chmod(program.c_str(), 04755), 0);
  CheckExecutable(program, "probe", geteuid(), "", &findings_);
  EXPECT_NO_PROBLEM();
  CheckExecutable(program, "probe", geteuid() + 1, "", &findings_);
  EXPECT_PROBLEM("is setuid");
}

TEST_F(DoctorTest, ScriptIsJudgedByItsInterpreter) {
  const std::string script =
      directory_.Write("script", absl::StrCat("#! ", TEST_STATIC_PROBE, " -x\n"));
  CheckExecutable(script, "script", 1000, "", &findings_);
  EXPECT_PROBLEM("linked statically");
  EXPECT_THAT(findings_.ToString(), HasSubstr("script is a script run by"));
}

TEST_F(DoctorTest, ScriptOfEnvFindsItsInterpreterInThePath) {
  std::filesystem::copy_file(TEST_PROBE, directory_ / "interpreter");
  const std::string script = directory_.Write("script", "#!/usr/bin/env -S A=b interpreter -x\n");
  CheckExecutable(script, "script", 1000, directory_.path(), &findings_);
  EXPECT_NO_PROBLEM();
  EXPECT_THAT(findings_.ToString(), HasSubstr(directory_ / "interpreter"));
}

TEST_F(DoctorTest, ScriptThatRunsItselfEnds) {
  const std::string script = directory_ / "loop";
  directory_.Write("loop", absl::StrCat("#!", script, "\n"));
  CheckExecutable(script, "loop", 1000, "", &findings_);
  EXPECT_PROBLEM("cannot judge");
}

TEST_F(DoctorTest, FindsProgramsAsAShellDoes) {
  std::filesystem::copy_file(TEST_PROBE, directory_ / "tool");
  directory_.Write("text", "not executable");
  EXPECT_EQ(FindProgram("tool", "/nonexistent:" + directory_.path()), directory_ / "tool");
  EXPECT_EQ(FindProgram(directory_ / "tool", ""), directory_ / "tool");
  EXPECT_EQ(FindProgram("text", directory_.path()), "");
  EXPECT_EQ(FindProgram("", directory_.path()), "");
}

// A running probe, with an environment of the test's choice.
class RunningProbe {
 public:
  RunningProbe(const char* program, const std::string& preload) {
    int ready[2];
    if (pipe(ready) != 0) abort();
    pid_ = fork();
    if (pid_ == 0) {
      dup2(ready[1], STDOUT_FILENO);
      const std::string variable = "LD_PRELOAD=" + preload;
      const char* environment[] = {preload.empty() ? nullptr : variable.c_str(), nullptr};
      execle(program, program, "wait", nullptr, environment);
      _exit(127);
    }
    close(ready[1]);
    char byte;
    if (read(ready[0], &byte, 1) != 1) abort();  // it is up
    close(ready[0]);
  }
  RunningProbe(const RunningProbe&) = delete;
  RunningProbe& operator=(const RunningProbe&) = delete;
  ~RunningProbe() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

TEST_F(DoctorTest, ProcessStartedWithoutTheLibrary) {
  const RunningProbe probe(TEST_PROBE, "");
  CheckProcess(places_, probe.pid(), &findings_);
  EXPECT_PROBLEM("it was started without it");
}

TEST_F(DoctorTest, ProcessThatCannotHaveTheLibrary) {
  const RunningProbe probe(TEST_STATIC_PROBE, "");
  CheckProcess(places_, probe.pid(), &findings_);
  EXPECT_THAT(findings_.ToString(), HasSubstr("linked statically"));
}

TEST_F(DoctorTest, ProcessWithTheLibraryAndNoHotConnectionIsFine) {
  const RunningProbe probe(TEST_PROBE, directory_ / "lib/libxenloop.so");
  CheckProcess(places_, probe.pid(), &findings_);
  EXPECT_NO_PROBLEM();
  EXPECT_THAT(findings_.ToString(), HasSubstr("has the library"));
  EXPECT_THAT(findings_.ToString(), HasSubstr("it has no agent"));
}

TEST_F(DoctorTest, ProcessWhoseLibraryWasReplaced) {
  const RunningProbe probe(TEST_PROBE, directory_ / "lib/libxenloop.so");
  std::filesystem::remove(directory_ / "lib/libxenloop.so");
  CheckProcess(places_, probe.pid(), &findings_);
  EXPECT_THAT(findings_.ToString(), HasSubstr("has been replaced since"));
}

TEST_F(DoctorTest, NoSuchProcess) {
  CheckProcess(places_, 0x3fffffff, &findings_);
  EXPECT_PROBLEM("there is no process");
}

TEST_F(DoctorTest, AReasonIsFollowedByItsOwnRemedy) {
  for (size_t number = 1; number < kReasonCount; ++number) {
    const auto reason = static_cast<Reason>(number);
    EXPECT_EQ(RemedyForReason(ReasonText(reason)), ReasonRemedy(reason));
  }
  // Words that hold those of another reason are not taken for it.
  EXPECT_THAT(RemedyForReason("fork: a child cannot reach another guest's memory"),
              Not(HasSubstr("limit")));
  EXPECT_THAT(RemedyForReason("peer guest: no library there, or the connection is not hot"),
              HasSubstr("xenloop run"));
  EXPECT_EQ(RemedyForReason("something new"), "");
  EXPECT_EQ(RemedyForReason(""), "");
}

TEST_F(DoctorTest, GuestThatASuspensionWouldKill) {
  places_.hypervisor = directory_ / "hypervisor";
  places_.proc = directory_ / "proc";
  std::filesystem::create_directory(places_.hypervisor);
  std::filesystem::create_directories(directory_ / "proc/xen");
  const auto say = [](const std::string& path, const char* text) { std::ofstream(path) << text; };
  CheckSuspension(places_, &findings_);
  say(places_.hypervisor + "/type", "xen\n");
  say(places_.hypervisor + "/guest_type", "PVH\n");
  CheckSuspension(places_, &findings_);
  say(places_.hypervisor + "/guest_type", "PV\n");
  say(places_.proc + "/xen/capabilities", "control_d\n");
  CheckSuspension(places_, &findings_);
  EXPECT_TRUE(findings_.list().empty()) << findings_.ToString();
  say(places_.proc + "/xen/capabilities", "");
  CheckSuspension(places_, &findings_);
  EXPECT_THAT(findings_.ToString(), HasSubstr("this is a PV guest"));
}

}  // namespace
}  // namespace xenloop::tools

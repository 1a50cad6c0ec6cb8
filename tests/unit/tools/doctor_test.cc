// The doctor's findings, each with the situation that causes it.

#include "tools/doctor.h"

#include <elf.h>
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
#include "tests/unit/tools/doctor_fixture.h"
#include "tests/unit/tools/fake_agent.h"

namespace xenloop::tools {
namespace {

using testing::HasSubstr;
using testing::Not;

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

TEST_F(DoctorTest, SaysWhatHasNotBeenTriedOnThisArchitecture) {
  CheckArchitecture(EM_X86_64, 4096, &findings_);
  EXPECT_TRUE(findings_.list().empty());
  CheckArchitecture(EM_AARCH64, 4096, &findings_);
  EXPECT_NO_PROBLEM();
  EXPECT_THAT(findings_.ToString(), HasSubstr("under an emulator only"));
  CheckArchitecture(EM_AARCH64, 65536, &findings_);
  EXPECT_PROBLEM("pages have 65536 bytes");
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

TEST_F(DoctorTest, SmallAddressSpace) {
  CheckAddressSpace(RLIM_INFINITY, &findings_);
  EXPECT_NO_PROBLEM();
  CheckAddressSpace(uint64_t{1} << 30, &findings_);
  EXPECT_PROBLEM("limited to 1024 MiB");
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

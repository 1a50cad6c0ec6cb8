// The doctor's findings about what has been set, and where processes find each other.

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "discovery/protocol/reasons.h"
#include "tests/unit/tools/doctor_fixture.h"

namespace xenloop::tools {
namespace {

using testing::HasSubstr;
using testing::Not;

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

}  // namespace
}  // namespace xenloop::tools

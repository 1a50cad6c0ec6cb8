// Quiesce and release over the twin of XenStore; a script plays xl.
#include "tools/move_command.h"

#include <sys/stat.h>

#include <cstdlib>
#include <fstream>

#include "discovery/daemon/xenstore/keys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/discovery/fake_xenstore.h"

namespace xenloop::tools {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

const std::string kGuest = "/local/domain/3/";

// The fake store is for one thread; so the "guest" answers from within the tool's own reading.
class AnsweringStore final : public XenStore {
 public:
  explicit AnsweringStore(FakeHost* host) : host_(host), store_(host, 0) {}
  absl::StatusOr<std::string> Read(const std::string& path) override {
    const std::string prepare = host_->Value(kGuest + kPrepareKey);
    if (answers && prepare != "(absent)") host_->Set(kGuest + kReadyKey, prepare, 3, {});
    return store_.Read(path);
  }
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    return store_.List(path);
  }
  absl::Status Write(const std::string& path, const std::string& value) override {
    return store_.Write(path, value);
  }
  absl::Status Remove(const std::string& path) override { return store_.Remove(path); }
  absl::Status SetPermissions(const std::string& path,
                              const std::vector<std::string>& permissions) override {
    return store_.SetPermissions(path, permissions);
  }
  absl::Status Watch(const std::string& path) override { return store_.Watch(path); }
  absl::Status Unwatch(const std::string& path) override { return store_.Unwatch(path); }
  int descriptor() const override { return store_.descriptor(); }
  absl::StatusOr<int> TakeEvents() override { return store_.TakeEvents(); }

  bool answers = true;

 private:
  FakeHost* host_;
  FakeXenStore store_;
};

class MoveCommandTest : public testing::Test {
 protected:
  MoveCommandTest() : store_(&host_) {
    for (const uint32_t domid : {3u, 4u}) host_.CreateDomain(domid, {});
    host_.Set(kGuest + "name", "web", 0, {});
    host_.Set(kGuest + kParticipationKey, FormatParticipation(1), 3, {});
    limits_.timeout = milliseconds(100);
    char name[] = "/tmp/xenloop-move-XXXXXX";
    directory_ = mkdtemp(name);
  }
  ~MoveCommandTest() override { std::system(("rm -r " + directory_).c_str()); }
  // xl: what it was given goes to a file.
  void PlayXl(int exit_status) {
    const std::string path = directory_ + "/xl";
    std::ofstream(path) << "#!/bin/sh\necho \"$*\" >" << directory_ << "/given\nexit "
                        << exit_status << "\n";
    chmod(path.c_str(), 0755);
    setenv("XENLOOP_XL", path.c_str(), 1);
  }
  std::string Given() {
    std::string line;
    std::getline(std::ifstream(directory_ + "/given"), line);
    return line;
  }
  bool Prepared() { return host_.Value(kGuest + kPrepareKey) != "(absent)"; }

  FakeHost host_;
  AnsweringStore store_;
  MoveLimits limits_;
  std::string directory_;
};

TEST_F(MoveCommandTest, DomainIsFoundByNameAndByNumber) {
  EXPECT_EQ(*FindDomain(&store_, "web"), 3u);
  EXPECT_EQ(*FindDomain(&store_, "4"), 4u);
  EXPECT_FALSE(FindDomain(&store_, "5").ok());
  EXPECT_FALSE(FindDomain(&store_, "").ok());
  EXPECT_FALSE(FindDomain(&store_, "0").ok());
}

TEST_F(MoveCommandTest, GuestThatAnswersIsReadyAndStaysPreparedUntilItIsReleased) {
  EXPECT_TRUE(Quiesce(&store_, 3, limits_).ready);
  EXPECT_TRUE(Prepared());
  EXPECT_TRUE(Quiesce(&store_, 3, limits_).ready);  // again, under another token
  ASSERT_TRUE(Release(&store_, 3).ok());
  EXPECT_FALSE(Prepared());
}

TEST_F(MoveCommandTest, GuestThatTakesNoPartIsReady) {
  store_.answers = false;
  EXPECT_TRUE(Quiesce(&store_, 4, limits_).ready);
}

TEST_F(MoveCommandTest, WhoDoesNotAnswerIsNamedAndTheMoveIsRefused) {
  store_.answers = false;
  host_.Set(kGuest + kWaitingKey, "4 71:redis-server", 3, {});
  host_.Set(std::string("/local/domain/4/") + kWaitingKey, "9 5:other, 3 72:evil\x1b[2J", 4, {});
  const QuiesceOutcome outcome = Quiesce(&store_, 3, limits_);
  EXPECT_FALSE(outcome.ready);
  EXPECT_FALSE(Prepared());
  EXPECT_THAT(outcome.text, HasSubstr("domain 3: process 71:redis-server"));
  EXPECT_THAT(outcome.text, HasSubstr("domain 4: process 72:evil"));
  EXPECT_THAT(outcome.text, Not(HasSubstr("other")));
  EXPECT_THAT(outcome.text, Not(HasSubstr("\x1b")));
  limits_.force = true;
  EXPECT_TRUE(Quiesce(&store_, 3, limits_).ready);
  EXPECT_TRUE(Prepared());
}

TEST_F(MoveCommandTest, XlIsCalledWithWhatItWasGivenAndAFailureReleases) {
  PlayXl(0);
  EXPECT_EQ(RunMove(&store_, "migrate", {"-s", "ssh -p 9", "web", "there"}, limits_), 0);
  EXPECT_EQ(Given(), "migrate -s ssh -p 9 web there");
  PlayXl(5);
  EXPECT_EQ(RunMove(&store_, "save", {"-p", "3", "/tmp/image"}, limits_), 5);
  EXPECT_EQ(Given(), "save -p 3 /tmp/image");
  EXPECT_FALSE(Prepared());
}

TEST_F(MoveCommandTest, XlIsNotCalledForAGuestThatIsNotReady) {
  PlayXl(0);
  store_.answers = false;
  EXPECT_EQ(RunMove(&store_, "migrate", {"web", "there"}, limits_), 1);
  EXPECT_EQ(Given(), "");
}

TEST_F(MoveCommandTest, GuestThatIsNotHereHasAStatusOfItsOwn) {
  EXPECT_EQ(RunMove(&store_, "quiesce", {"nobody"}, limits_), 3);
}

TEST_F(MoveCommandTest, SuspendedGuestStaysPrepared) {
  PlayXl(0);
  EXPECT_EQ(RunMove(&store_, "suspend", {"web"}, limits_), 0);
  EXPECT_TRUE(Prepared());
  EXPECT_EQ(RunMove(&store_, "release", {"web"}, limits_), 0);
  EXPECT_FALSE(Prepared());
}

}  // namespace
}  // namespace xenloop::tools

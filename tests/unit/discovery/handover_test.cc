// Notes between a program and the one that it becomes: what is left is found once, by the right
// pid; what is old, torn, hostile or missing is no note, and a shared socket stays shared until it
// is said otherwise.
#include "discovery/handover.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace xenloop {
namespace {

class HandoverTest : public testing::Test {
 protected:
  HandoverTest() {
    char name[] = "/tmp/xenloop-handover-XXXXXX";
    base_ = mkdtemp(name);
  }
  ~HandoverTest() override { std::filesystem::remove_all(base_); }

  std::string File() const { return base_ + "/xenloop-" + std::to_string(uid_) + "/handovers"; }
  static uint64_t Moment() {  // one for all notes
    static const uint64_t moment = HandoverMoment();
    return moment;
  }
  static Handover Note(int fd, uint64_t cookie, bool shared) {
    Handover note;
    note.cookie = cookie;
    note.taker = {7, 8};
    note.fd = fd;
    note.shared = shared ? 1 : 0;
    note.left_ns = Moment();
    return note;
  }
  int Leave(pid_t pid, std::vector<Handover> notes) {
    return LeaveHandovers(base_.c_str(), uid_, pid, notes.data(), notes.size());
  }
  std::vector<Handover> Take(pid_t pid) {
    std::vector<Handover> notes(kMostHandovers);
    notes.resize(TakeHandovers(base_.c_str(), uid_, pid, notes.data(), notes.size()));
    return notes;
  }
  bool Shared(pid_t pid, uint64_t cookie) {
    return IsStillShared(base_.c_str(), uid_, pid, cookie);
  }

  const uid_t uid_ = geteuid();
  std::string base_;
};

TEST_F(HandoverTest, NotesAreFoundOnceAndByTheirPid) {
  ASSERT_EQ(Leave(100, {Note(5, 77, false), Note(6, 78, false)}), 0);
  EXPECT_TRUE(Take(101).empty());
  EXPECT_TRUE(Take(100 + 512).empty());  // same bucket
  const std::vector<Handover> notes = Take(100);
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_EQ(notes[0].fd, 5);
  EXPECT_EQ(notes[0].cookie, 77u);
  EXPECT_EQ(notes[1].taker.inode, 8u);
  EXPECT_TRUE(Take(100).empty());
}

TEST_F(HandoverTest, NothingIsFoundWhereNothingWasLeft) { EXPECT_TRUE(Take(100).empty()); }

TEST_F(HandoverTest, SharedUntilItIsSaidOtherwise) {
  ASSERT_EQ(Leave(100, {Note(5, 77, true), Note(6, 77, true), Note(7, 78, true)}), 0);
  ASSERT_EQ(Take(100).size(), 3u);
  EXPECT_TRUE(Shared(100, 77));
  EXPECT_EQ(SayNoLongerShared(base_.c_str(), uid_, 100, 77, Moment()), 0);
  EXPECT_FALSE(Shared(100, 77));
  EXPECT_TRUE(Shared(100, 78));
  EXPECT_TRUE(Shared(101, 77));  // nobody has said anything
  EXPECT_LT(SayNoLongerShared(base_.c_str(), uid_, 100, 79, Moment()), 0);
}

// Who has seen the attempt before this one comes late: what he says is not about this one, nor the
// four bytes that he writes.
TEST_F(HandoverTest, WordOfAFormerAttemptIsNone) {
  Handover former = Note(5, 77, true);
  former.left_ns -= 1;
  ASSERT_EQ(Leave(100, {former}), 0);
  ASSERT_EQ(SayNoLongerShared(base_.c_str(), uid_, 100, 77, former.left_ns), 0);
  ASSERT_FALSE(Shared(100, 77));
  const off_t where = 100 % 512 * 8 * 56 + static_cast<off_t>(offsetof(Handover, shared));
  const int fd = open(File().c_str(), O_RDWR);
  ASSERT_GE(fd, 0);
  uint32_t word = 0;
  ASSERT_EQ(pread(fd, &word, sizeof word, where), 4);
  ASSERT_EQ(Leave(100, {Note(5, 77, true)}), 0);
  EXPECT_LT(SayNoLongerShared(base_.c_str(), uid_, 100, 77, former.left_ns), 0);
  EXPECT_TRUE(Shared(100, 77));
  ASSERT_EQ(pwrite(fd, &word, sizeof word, where), 4);
  EXPECT_TRUE(Shared(100, 77));
  close(fd);
  EXPECT_EQ(SayNoLongerShared(base_.c_str(), uid_, 100, 77, Moment()), 0);
  EXPECT_FALSE(Shared(100, 77));
}

TEST_F(HandoverTest, APassedConnectionIsFoundByItsCookieAndItsTakerOnly) {
  const pid_t key = PassedKey(77);
  EXPECT_LT(key, 0);
  EXPECT_LT(PassedKey(0), 0);
  EXPECT_LT(PassedKey(~0ull), 0);
  ASSERT_EQ(Leave(key, {Note(5, 77, true)}), 0);
  const FileId taker = Note(5, 77, true).taker;
  Handover note;
  const auto find = [&](uint64_t cookie, FileId by) {
    return FindPassed(base_.c_str(), uid_, cookie, by, &note);
  };
  EXPECT_TRUE(find(77, taker));
  EXPECT_EQ(note.cookie, 77u);
  EXPECT_FALSE(find(77, {taker.device, taker.inode + 1}));
  EXPECT_FALSE(find(77, {taker.device + 1, taker.inode}));
  EXPECT_FALSE(find(78, taker));
  EXPECT_FALSE(find(77 + 0x7fffffffull, taker));  // the same key
  EXPECT_TRUE(Shared(key, 77));
  EXPECT_EQ(SayNoLongerShared(base_.c_str(), uid_, key, 77, Moment()), 0);
  EXPECT_FALSE(Shared(key, 77));
  VoidHandovers(base_.c_str(), uid_, key);
  EXPECT_FALSE(find(77, taker));
  EXPECT_TRUE(Shared(key, 77));
}

TEST_F(HandoverTest, LaterNotesReplaceTheFormer) {
  ASSERT_EQ(Leave(100, {Note(5, 77, false), Note(6, 78, false)}), 0);
  ASSERT_EQ(Leave(100, {Note(9, 79, false)}), 0);
  const std::vector<Handover> notes = Take(100);
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_EQ(notes[0].fd, 9);
  ASSERT_EQ(Leave(100, {Note(9, 79, false)}), 0);
  ASSERT_EQ(Leave(100, {}), 0);  // the exec has failed
  EXPECT_TRUE(Take(100).empty());
}

TEST_F(HandoverTest, AFullBucketTurnsNotesAway) {
  for (int i = 0; i < 8; ++i) ASSERT_EQ(Leave(100 + 512 * i, {Note(5, 77, false)}), 0);
  EXPECT_LT(Leave(100 + 512 * 8, {Note(5, 77, false)}), 0);
  EXPECT_EQ(Take(100).size(), 1u);
  EXPECT_EQ(Leave(100 + 512 * 8, {Note(5, 77, false)}), 0);
}

TEST_F(HandoverTest, AChangedByteMakesANoteVoid) {
  ASSERT_EQ(Leave(100, {Note(5, 77, true)}), 0);
  const off_t begin = 100 % 512 * 8 * 56;
  for (off_t offset = begin; offset < begin + 56; ++offset) {
    const auto in_note = static_cast<size_t>(offset - begin);
    const bool in_shared = in_note >= offsetof(Handover, shared) &&
                           in_note < offsetof(Handover, shared) + sizeof Handover::shared;
    const int fd = open(File().c_str(), O_RDWR);
    ASSERT_GE(fd, 0);
    char byte = 0;
    ASSERT_EQ(pread(fd, &byte, 1, offset), 1);
    char changed = static_cast<char>(byte ^ 1);
    ASSERT_EQ(pwrite(fd, &changed, 1, offset), 1);
    EXPECT_TRUE(Shared(100, 77));
    if (!in_shared) {
      EXPECT_LT(SayNoLongerShared(base_.c_str(), uid_, 100, 77, Moment()), 0) << offset;
    }
    ASSERT_EQ(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
  }
  EXPECT_EQ(Take(100).size(), 1u);
}

TEST_F(HandoverTest, AFileThatOthersMayWriteIsNotRead) {
  ASSERT_EQ(Leave(100, {Note(5, 77, false)}), 0);
  ASSERT_EQ(chmod(File().c_str(), 0666), 0);
  EXPECT_TRUE(Take(100).empty());
  EXPECT_LT(Leave(100, {Note(5, 77, false)}), 0);
}

TEST_F(HandoverTest, ALinkToAnotherFileIsNotFollowed) {
  ASSERT_EQ(Leave(100, {Note(5, 77, false)}), 0);
  std::filesystem::rename(File(), base_ + "/elsewhere");
  std::filesystem::create_symlink(base_ + "/elsewhere", File());
  EXPECT_TRUE(Take(100).empty());
  std::filesystem::remove(File());
  std::filesystem::create_hard_link(base_ + "/elsewhere", File());
  EXPECT_TRUE(Take(100).empty());
}

}  // namespace
}  // namespace xenloop

// The directory of hints: what is published is found; a directory or file that is not what it must
// be gives an error with a reason, or no hints, and never more than that.
#include "discovery/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace xenloop {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

class RegistryTest : public testing::Test {
 protected:
  RegistryTest() {
    char name[] = "/tmp/xenloop-registry-XXXXXX";
    base_ = mkdtemp(name);
  }
  ~RegistryTest() override { std::filesystem::remove_all(base_); }

  std::string Directory() const { return base_ + "/xenloop-" + std::to_string(uid_); }
  std::string Hints() const { return Directory() + "/hints"; }
  int Open() { return registry_.Open(base_.c_str(), uid_, &reason_); }
  std::vector<uint64_t> Lookup(uint64_t hash, Registry& registry) const {
    uint64_t found[8];
    const size_t n = registry.Lookup(uid_, hash, found, 8);
    return std::vector<uint64_t>(found, found + n);
  }

  const uid_t uid_ = geteuid();
  std::string base_;
  Registry registry_;
  Reason reason_ = Reason::kNone;
};

TEST_F(RegistryTest, PublishedHintIsFoundByAnotherProcessOfTheUser) {
  ASSERT_EQ(Open(), 0);
  ASSERT_EQ(registry_.Publish(12345, 77), 0);
  EXPECT_THAT(Lookup(12345, registry_), ElementsAre(77));
  EXPECT_THAT(Lookup(12346, registry_), IsEmpty());
  Registry other;
  Reason reason = Reason::kNone;
  ASSERT_EQ(other.Open(base_.c_str(), uid_, &reason), 0);
  EXPECT_THAT(Lookup(12345, other), ElementsAre(77));
}

TEST_F(RegistryTest, LaterHintReplacesTheFormer) {
  ASSERT_EQ(Open(), 0);
  registry_.Publish(5, 1);
  registry_.Publish(5, 2);
  EXPECT_THAT(Lookup(5, registry_), ElementsAre(2));
}

// Many connections become hot at once in a directory that is full of hints of ended programs: the
// one that is about to be looked up must not be the one that the next publication replaces.
TEST_F(RegistryTest, FullBucketLosesItsOldestHint) {
  ASSERT_EQ(Open(), 0);
  constexpr uint64_t kBuckets = 16384;
  const auto hash = [](uint64_t i) { return 9 + i * kBuckets; };
  for (uint64_t i = 0; i < 100; ++i) {
    ASSERT_EQ(registry_.Publish(hash(i), 100 + i), 0);
    ASSERT_EQ(registry_.Publish(hash(i), 100 + i), 0);  // a retry pushes nobody out
    for (uint64_t k = 0; k <= i; ++k)
      ASSERT_EQ(Lookup(hash(k), registry_).size(), k + 4 > i ? 1u : 0u) << k << " after " << i;
  }
  ASSERT_EQ(registry_.Publish(hash(96), 7), 0);  // is the latest again
  ASSERT_EQ(registry_.Publish(hash(100), 200), 0);
  EXPECT_THAT(Lookup(hash(96), registry_), ElementsAre(7));
  EXPECT_THAT(Lookup(hash(97), registry_), IsEmpty());
}

TEST_F(RegistryTest, AnswerIsBoundedByTheCallersRoom) {
  ASSERT_EQ(Open(), 0);
  registry_.Publish(5, 1);
  uint64_t found[1];
  EXPECT_EQ(registry_.Lookup(uid_, 5, found, 0), 0u);
  EXPECT_EQ(registry_.Lookup(uid_, 5, found, 1), 1u);
}

TEST_F(RegistryTest, UnusedRegistryFindsNothing) {
  EXPECT_EQ(registry_.Publish(1, 2), -EBADF);
  EXPECT_THAT(Lookup(1, registry_), IsEmpty());
  EXPECT_FALSE(registry_.is_open());
}

TEST_F(RegistryTest, DirectoryIsMadeForItsOwnerAlone) {
  const mode_t before = umask(0);
  EXPECT_EQ(Open(), 0);
  umask(before);
  struct stat status;
  ASSERT_EQ(stat(Directory().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0755u);
  ASSERT_EQ(stat(Hints().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0644u);
}

TEST_F(RegistryTest, DirectoryThatOthersCanWriteIsRefused) {
  mkdir(Directory().c_str(), 0755);
  for (const mode_t mode : {0777u, 0775u, 0757u, 01777u}) {
    chmod(Directory().c_str(), mode);
    EXPECT_EQ(Open(), -EPERM) << mode;
    EXPECT_STREQ(ReasonText(reason_), "runtime directory belongs to somebody else");
  }
}

TEST_F(RegistryTest, DirectoryOfSomebodyElseIsRefusedAndItsHintsToo) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to make a directory of another user";
  mkdir(Directory().c_str(), 0755);
  ASSERT_EQ(chown(Directory().c_str(), 12345, 12345), 0);
  EXPECT_EQ(Open(), -EPERM);
  // A directory that is called ours but belongs to another is not followed for lookups either.
  EXPECT_THAT(Lookup(1, registry_), IsEmpty());
}

TEST_F(RegistryTest, HintsOfAnotherUserAreReadWithoutTrustingTheFilesOwner) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to make files of another user";
  constexpr uid_t kOther = 12345;
  Registry other;
  Reason reason = Reason::kNone;
  ASSERT_EQ(Open(), 0);
  // Made by root in the other's name: the file's owner is wrong.
  const std::string directory = base_ + "/xenloop-12345";
  mkdir(directory.c_str(), 0755);
  ASSERT_EQ(chown(directory.c_str(), kOther, kOther), 0);
  std::ofstream(directory + "/hints") << std::string(1 << 20, 'x');
  uint64_t found[4];
  EXPECT_EQ(registry_.Lookup(kOther, 5, found, 4), 0u);
  EXPECT_EQ(other.Open(base_.c_str(), kOther, &reason), -EPERM);
  EXPECT_STREQ(ReasonText(reason), "hints file is not ours");
  ASSERT_EQ(chown((directory + "/hints").c_str(), kOther, kOther), 0);
  ASSERT_EQ(other.Open(base_.c_str(), kOther, &reason), 0);
  ASSERT_EQ(other.Publish(5, 42), 0);
  EXPECT_EQ(registry_.Lookup(kOther, 5, found, 4), 1u);
  EXPECT_EQ(found[0], 42u);
}

TEST_F(RegistryTest, SymbolicLinksAreNotFollowed) {
  const std::string target = base_ + "/target";
  mkdir(target.c_str(), 0755);
  ASSERT_EQ(symlink(target.c_str(), Directory().c_str()), 0);
  EXPECT_LT(Open(), 0);
  EXPECT_STREQ(ReasonText(reason_), "runtime directory cannot be opened");
  unlink(Directory().c_str());
  mkdir(Directory().c_str(), 0755);
  std::ofstream(target + "/file") << "precious";
  ASSERT_EQ(symlink((target + "/file").c_str(), Hints().c_str()), 0);
  EXPECT_EQ(Open(), -ELOOP);
  EXPECT_STREQ(ReasonText(reason_), "hints file cannot be opened");
}

TEST_F(RegistryTest, HintsThatAreNoFileAreRefusedWithoutWaiting) {
  mkdir(Directory().c_str(), 0755);
  ASSERT_EQ(mkfifo(Hints().c_str(), 0644), 0);
  EXPECT_EQ(Open(), -EPERM);
  EXPECT_STREQ(ReasonText(reason_), "hints file is not ours");
  unlink(Hints().c_str());
  mkdir(Hints().c_str(), 0755);
  EXPECT_EQ(Open(), -EISDIR);
}

TEST_F(RegistryTest, GarbageInTheFileIsAHintAtMost) {
  mkdir(Directory().c_str(), 0755);
  std::ofstream(Hints()) << std::string((1 << 20) + 1, '\xff');
  ASSERT_EQ(Open(), 0);
  EXPECT_THAT(Lookup(1, registry_), IsEmpty());
  EXPECT_EQ(Lookup(~uint64_t{0}, registry_).size(), 4u);  // the caller verifies whom it is led to
  EXPECT_EQ(registry_.Publish(1, 2), 0);
  EXPECT_THAT(Lookup(1, registry_), ElementsAre(2));
}

TEST_F(RegistryTest, TruncatedFileIsHarmless) {
  ASSERT_EQ(Open(), 0);
  for (const off_t size : {0, 1, 15, 17, 63, 65}) {
    registry_.Publish(0, 9);
    ASSERT_EQ(truncate(Hints().c_str(), size), 0);
    Lookup(0, registry_);
    Lookup(3, registry_);
  }
  EXPECT_EQ(registry_.Publish(0, 9), 0);
  EXPECT_THAT(Lookup(0, registry_), UnorderedElementsAre(9));
}

TEST_F(RegistryTest, MissingBaseAndLongNameGiveReasons) {
  EXPECT_EQ(registry_.Open((base_ + "/none").c_str(), uid_, &reason_), -ENOENT);
  EXPECT_STREQ(ReasonText(reason_), "runtime directory cannot be made");
  EXPECT_EQ(registry_.Open(("/" + std::string(200, 'x')).c_str(), uid_, &reason_), -ENAMETOOLONG);
  EXPECT_STREQ(ReasonText(reason_), "runtime directory's name is too long");
  EXPECT_FALSE(registry_.is_open());
}

class MountedRegistryTest : public RegistryTest {
 protected:
  bool Mount(const char* options, unsigned long flags = 0) {
    mounted_ = mount("tmpfs", base_.c_str(), "tmpfs", flags, options) == 0;
    return mounted_;
  }
  ~MountedRegistryTest() override {
    registry_.Close();
    if (mounted_) umount2(base_.c_str(), MNT_DETACH);
  }
  bool mounted_ = false;
};

TEST_F(MountedRegistryTest, FullFileSystemIsAnErrorAndNoSignal) {
  if (!Mount("size=8k,mode=0755"))
    GTEST_SKIP() << "cannot mount a small tmpfs: " << strerror(errno);
  ASSERT_EQ(Open(), 0);
  int error = 0;
  for (uint64_t hash = 0; hash < 16384 && error == 0; hash += 64)
    error = registry_.Publish(hash, 1);
  EXPECT_EQ(error, -ENOSPC);
  EXPECT_THAT(Lookup(0, registry_), ElementsAre(1));
  EXPECT_THAT(Lookup(16320, registry_), IsEmpty());
}

TEST_F(MountedRegistryTest, ReadOnlyFileSystemGivesAReason) {
  if (!Mount("size=64k,mode=0755", MS_RDONLY))
    GTEST_SKIP() << "cannot mount a tmpfs: " << strerror(errno);
  EXPECT_EQ(Open(), -EROFS);
  EXPECT_STREQ(ReasonText(reason_), "runtime directory cannot be made");
}

TEST_F(RegistryTest, UnwritableBaseGivesAReason) {
  chmod(base_.c_str(), 0555);
  const bool root = geteuid() == 0;  // which would write all the same
  ASSERT_EQ(root ? seteuid(65534) : 0, 0);
  const int error = registry_.Open(base_.c_str(), 65534, &reason_);
  ASSERT_EQ(root ? seteuid(0) : 0, 0);
  EXPECT_EQ(error, -EACCES);
  EXPECT_STREQ(ReasonText(reason_), "runtime directory cannot be made");
  chmod(base_.c_str(), 0755);
}

// ---- addresses of agents ----

TEST(AgentAddress, AbstractNameOrFileInTheRealm) {
  sockaddr_un address;
  socklen_t length = AgentAddress("", 1000, 0xabcdef, &address);
  EXPECT_EQ(address.sun_path[0], '\0');
  EXPECT_STREQ(address.sun_path + 1, "xenloop/1000/0000000000abcdef");
  EXPECT_EQ(length, offsetof(sockaddr_un, sun_path) + 1 + strlen("xenloop/1000/0000000000abcdef"));
  length = AgentAddress("/run/realm", 0, ~uint64_t{0}, &address);
  EXPECT_STREQ(address.sun_path, "/run/realm/xenloop-0/ffffffffffffffff.sock");
  EXPECT_EQ(length, offsetof(sockaddr_un, sun_path) + 1 + strlen(address.sun_path));
}

TEST(AgentAddress, NameThatDoesNotFitIsNoAddress) {
  sockaddr_un address;
  EXPECT_EQ(AgentAddress(("/" + std::string(90, 'r')).c_str(), 4294967295u, 1, &address), 0u);
}

}  // namespace
}  // namespace xenloop

// Finding the library and putting it into LD_PRELOAD.

#include "tools/library_path.h"

#include <sys/stat.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/tools/tool_test_support.h"

namespace xenloop::tools {
namespace {

using testing::HasSubstr;

TEST(LibraryPath, BesideTheToolComesFirst) {
  const TemporaryDirectory prefix;
  ASSERT_EQ(mkdir((prefix / "bin").c_str(), 0700), 0);
  ASSERT_EQ(mkdir((prefix / "lib").c_str(), 0700), 0);
  const std::string library = prefix.Write("lib/libxenloop.so", "x");
  const auto found = FindLibrary(LibraryCandidates(prefix / "bin"));
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(*found, library);  // absolute, and without ".."
}

TEST(LibraryPath, ErrorNamesThePlaces) {
  const TemporaryDirectory empty;
  const auto found = FindLibrary({empty / "bin/../lib/libxenloop.so", empty.path()});
  ASSERT_FALSE(found.ok());
  EXPECT_THAT(std::string(found.status().message()), HasSubstr(empty / "bin/../lib"));
}

TEST(LibraryPath, PrependsOnce) {
  EXPECT_EQ(*PrependPreload("/l.so", ""), "/l.so");
  EXPECT_EQ(*PrependPreload("/l.so", "libother.so"), "/l.so:libother.so");
  EXPECT_EQ(*PrependPreload("/l.so", "/a.so /l.so:/b.so"), "/l.so:/a.so:/b.so");
}

TEST(LibraryPath, PathThatLdPreloadCannotExpressIsAnError) {
  EXPECT_FALSE(PrependPreload("/with blank/l.so", "").ok());
  EXPECT_FALSE(PrependPreload("/with:colon/l.so", "").ok());
}

TEST(LibraryPath, KnowsItsName) {
  EXPECT_TRUE(NamesLibrary("libxenloop.so"));
  EXPECT_TRUE(NamesLibrary("/usr/lib/libxenloop.so.0"));
  EXPECT_FALSE(NamesLibrary("/libxenloop.so/other.so"));
}

}  // namespace
}  // namespace xenloop::tools

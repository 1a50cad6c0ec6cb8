// Walking an array of vectors in pieces.
#include "channel/base/iov_cursor.h"

#include <string>

#include "gtest/gtest.h"

namespace xenloop {
namespace {

struct Vectors {
  std::string a = "abc", b, c = "defghi", d = "j";
  iovec iov[4] = {{a.data(), 3}, {b.data(), 0}, {c.data(), 6}, {d.data(), 1}};
};

TEST(IovCursor, CopiesOutAcrossVectors) {
  Vectors v;
  IovCursor cursor(v.iov, 4);
  EXPECT_EQ(cursor.remaining(), 10u);
  std::string out(10, '?');
  cursor.CopyOut(reinterpret_cast<uint8_t*>(out.data()), 4);
  EXPECT_EQ(cursor.remaining(), 6u);
  cursor.CopyOut(reinterpret_cast<uint8_t*>(out.data()) + 4, 6);
  EXPECT_EQ(cursor.remaining(), 0u);
  EXPECT_EQ(out, "abcdefghij");
}

TEST(IovCursor, CopiesInAcrossVectors) {
  Vectors v;
  IovCursor cursor(v.iov, 4);
  cursor.Skip(2);
  cursor.CopyIn(reinterpret_cast<const uint8_t*>("1234567"), 7);
  EXPECT_EQ(v.a + v.c + v.d, "ab1234567j");
  EXPECT_EQ(cursor.remaining(), 1u);
}

TEST(IovCursor, RestIsWhatIsUnreadWithinTheLimits) {
  Vectors v;
  IovCursor cursor(v.iov, 4);
  cursor.Skip(1);
  iovec rest[4];
  ASSERT_EQ(cursor.Rest(rest, 4, 100), 3u);  // the empty vector is left out
  EXPECT_EQ(rest[0].iov_base, v.a.data() + 1);
  EXPECT_EQ(rest[0].iov_len, 2u);
  EXPECT_EQ(rest[1].iov_len, 6u);
  EXPECT_EQ(rest[2].iov_len, 1u);
  ASSERT_EQ(cursor.Rest(rest, 4, 5), 2u);
  EXPECT_EQ(rest[1].iov_len, 3u);
  ASSERT_EQ(cursor.Rest(rest, 1, 100), 1u);
  EXPECT_EQ(cursor.Rest(rest, 4, 0), 0u);
  cursor.Skip(9);
  EXPECT_EQ(cursor.Rest(rest, 4, 100), 0u);
}

TEST(IovCursor, NothingIsNothing) {
  IovCursor none(nullptr, 0);
  EXPECT_EQ(none.remaining(), 0u);
  none.Skip(0);
  iovec rest[1];
  EXPECT_EQ(none.Rest(rest, 1, 10), 0u);
}

}  // namespace
}  // namespace xenloop

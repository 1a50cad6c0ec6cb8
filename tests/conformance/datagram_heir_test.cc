// A UDP socket that several have: a forked child, a duplicate, the next program.

#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/conformance/datagram.h"

namespace conformance {
namespace {

class DatagramHeirTest : public UdpFamilyTest {
 protected:
  DatagramHeirTest() {
    Heat(sender_, receiver_);
    Meet(sender_, receiver_);
  }

  UdpSocket receiver_;
  UdpSocket sender_;
};

TEST_P(DatagramHeirTest, AnInheritedSocketIsTheSameSocket) {
  sender_.Send("one");
  ChildProcess child([this] {
    CHILD_CHECK(receiver_.Receive() == "one");
    CHILD_CHECK(sender_.Send("from the child") == Done(14));
    return true;
  });
  EXPECT_TRUE(child.Succeeded());
  sender_.Send("two");
  EXPECT_EQ(receiver_.Receive(), "from the child");
  EXPECT_EQ(receiver_.Receive(), "two");
}

TEST_P(DatagramHeirTest, ADuplicateReadsTheSameQueue) {
  UdpSocket twin(false);
  twin.Take(FileDescriptor(dup(receiver_.fd())));
  sender_.Send("one");
  sender_.Send("two");
  EXPECT_EQ(twin.Receive(), "one");
  EXPECT_EQ(receiver_.Receive(), "two");
  receiver_.Close();
  sender_.Send("three");
  EXPECT_EQ(twin.Receive(), "three");
}

TEST_P(DatagramHeirTest, TheNextProgramFindsTheQueue) {
  sender_.Send("queued");
  ChildProcess child([this] {
    char* const arguments[] = {const_cast<char*>("sh"), const_cast<char*>("-c"),
                               const_cast<char*>("[ \"$(timeout 10 head -c 6 <&9)\" = queued ]"),
                               nullptr};
    char* const environment[] = {const_cast<char*>("PATH=/usr/bin:/bin"), nullptr};
    CHILD_CHECK(dup2(receiver_.fd(), 9) == 9);
    execve("/bin/sh", arguments, environment);
    return false;
  });
  EXPECT_TRUE(child.Succeeded());
}

FOR_ALL_UDP_FAMILIES(DatagramHeirTest);

}  // namespace
}  // namespace conformance

// What an agent does with packets for which a peer's socket has no room: the peer is this test, and
// reads when it likes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel/local/local_transport.h"
#include "preload/agent/agent_tasks.h"
#include "preload/side/private_fd.h"
#include "tests/unit/preload/followed_socket.h"

namespace xenloop {
namespace {

constexpr uint32_t kIndex = 0;
constexpr uint32_t kMany = 2000;

int OpenDescriptors() {
  int count = 0;
  for (int fd = 0; fd < 4096; ++fd) count += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  return count;
}

class PostTest : public testing::Test {
 protected:
  PostTest() {
    StartDoorbell();
    EXPECT_TRUE(MapAgentMemory());
    agent.uid = getuid();
    agent.epoll_fd = MakePrivate(epoll_create1(EPOLL_CLOEXEC));
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    peer_ = pair[0];
    EXPECT_EQ(AdoptTalk(pair[1]), kIndex);
    talk().ready = true;
  }
  ~PostTest() override {
    if (talk().in_use) TalkGone(kIndex);
    close(peer_);
    ClosePrivate(agent.epoll_fd);
  }

  static Talk& talk() { return agent.talks[kIndex]; }
  static int Send(ControlType type, uint32_t number, int fd = -1) {
    ControlMessage message;
    message.type = type;
    message.sender_slot = number;
    return SendControl(talk(), message, &fd, fd >= 0 ? 1 : 0);
  }
  // The number of the next packet that the peer reads; -1: there is none. `fd`: what it brings.
  int64_t Read(int* fd = nullptr) const {
    ControlMessage message;
    iovec iov{&message, sizeof message};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr header{};
    header.msg_iov = &iov;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    if (recvmsg(peer_, &header, MSG_CMSG_CLOEXEC) != sizeof message) return -1;
    const cmsghdr* part = CMSG_FIRSTHDR(&header);
    if (part != nullptr) {
      int brought;
      memcpy(&brought, CMSG_DATA(part), sizeof brought);
      fd != nullptr ? static_cast<void>(*fd = brought) : static_cast<void>(close(brought));
    }
    return message.sender_slot;
  }
  // As the agent's loop does it. Which events there were.
  static uint32_t Turn() {
    epoll_event event{};
    if (epoll_wait(agent.epoll_fd, &event, 1, 0) == 1) TalkEvent(kIndex, event.events);
    DeliverPost();
    return event.events;
  }

  int peer_ = -1;
};

TEST_F(PostTest, AllComesInOrderOnceThePeerReads) {
  for (uint32_t i = 0; i < kMany; ++i) ASSERT_EQ(Send(ControlType::kSealed, i), 0);
  EXPECT_NE(talk().first_unsent, 0u);
  EXPECT_EQ(Turn(), 0u) << "it is tried again when there is room, and not before";
  uint32_t next = 0;
  while (next < kMany) {
    const int64_t number = Read();
    if (number < 0) {
      ASSERT_NE(Turn() & EPOLLOUT, 0u) << "after " << next;
      continue;
    }
    ASSERT_EQ(number, next++);
  }
  EXPECT_EQ(Read(), -1);
  EXPECT_EQ(talk().first_unsent, 0u);
  EXPECT_EQ(Turn(), 0u) << "and nothing keeps the agent awake";
}

TEST_F(PostTest, DescriptorThatWaitsTravelsOrIsClosed) {
  while (talk().first_unsent == 0) Send(ControlType::kSealed, 0);
  const int before = OpenDescriptors();
  int pipes[2];
  ASSERT_EQ(pipe2(pipes, O_CLOEXEC), 0);
  EXPECT_EQ(Send(ControlType::kJoin, 1, pipes[1]), 0);
  close(pipes[1]);
  int brought = -1;
  for (int64_t number = 0; number != 1;) {
    number = Read(&brought);
    if (number < 0) {
      ASSERT_NE(Turn(), 0u);
    }
  }
  ASSERT_GE(brought, 0);
  EXPECT_EQ(write(brought, "x", 1), 1);
  char byte = 0;
  EXPECT_EQ(read(pipes[0], &byte, 1), 1);
  close(brought);
  while (talk().first_unsent == 0) Send(ControlType::kSealed, 0);
  EXPECT_EQ(Send(ControlType::kJoin, 1, pipes[0]), 0);
  close(pipes[0]);
  EXPECT_EQ(OpenDescriptors(), before + 1) << "the one that waits";
  TalkGone(kIndex);
  EXPECT_EQ(OpenDescriptors(), before - 1) << "neither it nor the talk's";
}

TEST_F(PostTest, PeerThatTakesNoAnswersIsNotRead) {
  while (ReadsFrom(talk())) ASSERT_EQ(Send(ControlType::kRefuse, 0), 0);
  ASSERT_EQ(send(peer_, "no packet at all", 16, 0), 16);  // read, it would end the talk
  EXPECT_EQ(Turn(), 0u);
  EXPECT_TRUE(talk().in_use);
  while (Read() >= 0 || Turn() == EPOLLOUT) {
  }
  Turn();
  EXPECT_FALSE(talk().in_use);
}

TEST_F(PostTest, PeerThatDoesNotReadForVeryLongIsGivenUp) {
  uint32_t sent = 0;
  while (Send(ControlType::kSealed, 0) == 0 && sent < 2 * kMostUnsent) ++sent;
  EXPECT_GE(sent, kMostUnsent);
  EXPECT_TRUE(talk().in_use);
  DeliverPost();
  EXPECT_FALSE(talk().in_use);
}

}  // namespace
}  // namespace xenloop

// What recvmsg, sendmsg and their plural forms say beside the bytes: names, control data, flags,
// counts, timeouts, and descriptors handed to somebody else.
#include "tests/abi/calls.h"

static char buffer[64];

static void TestHeaders(void) {
  struct Pair pair = MakePair(kTcp);
  char name[64];
  char control[64];
  struct iovec iov = {buffer, sizeof buffer};
  struct msghdr message = {.msg_name = name,
                           .msg_namelen = sizeof name,
                           .msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = sizeof control,
                           .msg_flags = -1};
  EXPECT(send(pair.fds[1], "hello", 5, 0), 5);
  EXPECT(recvmsg(pair.fds[0], &message, 0), 5);
  EXPECT_TRUE(message.msg_namelen == 0 && message.msg_controllen == 0 && message.msg_flags == 0);

  socklen_t name_length = sizeof name;
  EXPECT(send(pair.fds[1], "hello", 5, 0), 5);
  EXPECT(recvfrom(pair.fds[0], buffer, 64, 0, (struct sockaddr*)name, &name_length), 5);
  EXPECT_TRUE(name_length == 0);

  EXPECT(send(pair.fds[1], "abcdef", 6, 0), 6);
  EXPECT(recv(pair.fds[0], buffer, 2, MSG_PEEK), 2);
  EXPECT(memcmp(buffer, "ab", 2), 0);
  EXPECT(recv(pair.fds[0], buffer, 2, 0), 2);
  EXPECT(memcmp(buffer, "ab", 2), 0);
  EXPECT(recv(pair.fds[0], NULL, 2, MSG_TRUNC), 2);  // TCP throws two bytes away
  EXPECT(recv(pair.fds[0], buffer, 2, MSG_WAITALL), 2);
  EXPECT(memcmp(buffer, "ef", 2), 0);

  // Where to is known: the address does not matter.
  struct sockaddr nowhere = {.sa_family = AF_INET};
  EXPECT(sendto(pair.fds[1], "hello", 5, 0, &nowhere, sizeof nowhere), 5);
  EXPECT(recv(pair.fds[0], buffer, 64, 0), 5);
  ClosePair(&pair);
}

static void Fill(struct mmsghdr* messages, struct iovec* iovs, int count, size_t size) {
  memset(messages, 0, sizeof *messages * (size_t)count);
  for (int i = 0; i < count; ++i) {
    iovs[i] = (struct iovec){buffer + (size_t)i * size, size};
    messages[i].msg_hdr.msg_iov = &iovs[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
}

static void TestPlural(enum Kind kind) {
  struct Pair pair = MakePair(kind);
  struct mmsghdr messages[4];
  struct iovec iovs[4];
  memcpy(buffer, "onetwosix", 10);
  Fill(messages, iovs, 3, 3);
  EXPECT(sendmmsg(pair.fds[1], messages, 3, 0), 3);
  EXPECT_TRUE(messages[0].msg_len == 3 && messages[2].msg_len == 3);
  EXPECT(sendmmsg(pair.fds[1], messages, 0, 0), 0);

  memset(buffer, 0, sizeof buffer);
  Fill(messages, iovs, 4, 3);
  AwaitBytes(pair.fds[0], 9);
  EXPECT(recvmmsg(pair.fds[0], messages, 4, MSG_WAITFORONE, NULL), 3);
  EXPECT(memcmp(buffer, "onetwosix", 9), 0);
  EXPECT_TRUE(messages[0].msg_len == 3 && messages[2].msg_len == 3);
  EXPECT(recvmmsg(pair.fds[0], messages, 4, MSG_DONTWAIT, NULL), -EAGAIN);
  EXPECT(recvmmsg(pair.fds[0], messages, 0, 0, NULL), 0);

  // The time is looked at after a message: none left, one message.
  struct timespec none = {0, 0};
  EXPECT(send(pair.fds[1], "abcdef", 6, 0), 6);
  EXPECT(recvmmsg(pair.fds[0], messages, 2, 0, &none), 1);
  struct timespec wrong = {0, -1};
  EXPECT(recvmmsg(pair.fds[0], messages, 2, 0, &wrong), -EINVAL);
  struct timespec plenty = {100, 0};
  EXPECT(recvmmsg(pair.fds[0], messages, 1, 0, &plenty), 1);
  EXPECT_TRUE(plenty.tv_sec == 99 && plenty.tv_nsec > 0);

  EXPECT(shutdown(pair.fds[1], SHUT_WR), 0);
  EXPECT(sendmmsg(pair.fds[1], messages, 2, MSG_NOSIGNAL), -EPIPE);
  EXPECT(recvmmsg(pair.fds[0], messages, 2, 0, NULL), 2);  // the end, twice
  EXPECT_TRUE(messages[0].msg_len == 0 && messages[1].msg_len == 0);
  ClosePair(&pair);
}

static void PassDescriptor(int over, int passed, bool plural) {
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control;
  memset(&control, 0, sizeof control);
  control.header.cmsg_len = CMSG_LEN(sizeof(int));
  control.header.cmsg_level = SOL_SOCKET;
  control.header.cmsg_type = SCM_RIGHTS;
  memcpy(CMSG_DATA(&control.header), &passed, sizeof passed);
  struct iovec iov = {"x", 1};
  struct mmsghdr message = {.msg_hdr = {.msg_iov = &iov,
                                        .msg_iovlen = 1,
                                        .msg_control = &control,
                                        .msg_controllen = sizeof control}};
  if (plural) {
    EXPECT(sendmmsg(over, &message, 1, 0), 1);
  } else {
    EXPECT(sendmsg(over, &message.msg_hdr, 0), 1);
  }
}

static int TakeDescriptor(int from) {
  char control[CMSG_SPACE(sizeof(int))];
  struct iovec iov = {buffer, 1};
  struct msghdr message = {
      .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  EXPECT(recvmsg(from, &message, 0), 1);
  int taken = -1;
  const struct cmsghdr* const header = CMSG_FIRSTHDR(&message);
  EXPECT_TRUE(header != NULL && header->cmsg_type == SCM_RIGHTS);
  if (header != NULL) memcpy(&taken, CMSG_DATA(header), sizeof taken);
  return taken;
}

static void TestPassing(bool plural) {
  struct Pair over = MakePair(kUnix);
  struct Pair pair = MakePair(kTcp);
  EXPECT(write(pair.fds[1], "before", 6), 6);
  PassDescriptor(over.fds[1], pair.fds[0], plural);
  EXPECT(write(pair.fds[1], "after", 5), 5);
  const int taken = TakeDescriptor(over.fds[0]);
  EXPECT(close(pair.fds[0]), 0);
  EXPECT(recv(taken, buffer, 11, MSG_WAITALL), 11);
  EXPECT(memcmp(buffer, "beforeafter", 11), 0);
  EXPECT(close(pair.fds[1]), 0);
  EXPECT(read(taken, buffer, 11), 0);
  EXPECT(close(taken), 0);
  ClosePair(&over);
}

void TestMessages(void) {
  TestHeaders();
  TestPlural(kUnix);
  TestPlural(kTcp);
  TestPassing(false);
  TestPassing(true);
}

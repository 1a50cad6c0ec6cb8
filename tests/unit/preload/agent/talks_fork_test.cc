// The table of an agent's talks in the child of a fork: its places are named by the sides that the
// parent has attached, so they are not given to others while one of these rings a doorbell there.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include "channel/local/local_transport.h"
#include "preload/agent/agent_tasks.h"
#include "preload/side/own_doorbell.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"
#include "tests/unit/preload/followed_socket.h"

namespace xenloop {
namespace {

// A talk whose peer has a doorbell; the peer's view of it.
Doorbell TalkAt(uint32_t index) {
  Doorbell peers;
  Ticket ticket;
  EXPECT_EQ(LocalTransport().create_doorbell(&peers, &ticket), 0);
  ticket.fds[0] = dup(ticket.fds[0]);
  EXPECT_EQ(LocalTransport().map_doorbell(&ticket, &agent_shared.peers[index]), 0);
  agent_shared.peers[index].fd = MakePrivate(agent_shared.peers[index].fd);
  agent.talks[index].in_use = true;
  agent.talks[index].transport = &LocalTransport();
  return peers;
}

bool IsRung(int epfd) {
  epoll_event event;
  return epoll_wait(epfd, &event, 1, 0) == 1;
}

TEST(TalksForkTest, DoorbellOfAnInheritedSideIsKeptAndOthersAreReleased) {
  StartDoorbell();
  ASSERT_TRUE(MapAgentMemory());
  constexpr uint32_t kUsed = 0;
  constexpr uint32_t kUnused = 1;
  FollowedSocket socket;
  ASSERT_TRUE(socket.Attach());
  const Doorbell used = TalkAt(kUsed);
  TalkAt(kUnused);
  socket.side()->talk.store(kUsed);
  used.page->Count(1);
  const int epfd = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  ASSERT_EQ(epoll_ctl(epfd, EPOLL_CTL_ADD, used.fd, &event), 0);
  while (IsRung(epfd)) {
  }
  const int released = agent_shared.peers[kUnused].fd;
  EXPECT_EQ(InForkedChild([&] {
              if (agent.talks[kUnused].in_use || fcntl(released, F_GETFD) >= 0) return 1;
              // A talk of the child's own agent gets another place.
              int pair[2];
              if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0) return 2;
              agent.uid = getuid();
              agent.epoll_fd = MakePrivate(epoll_create1(EPOLL_CLOEXEC));
              for (int i = 0; i < 3; ++i) {
                if (AdoptTalk(dup(pair[0])) == kUsed) return 3;
              }
              RingPeerOf(socket.side(), /*certain=*/false, kAnyBell);
              return 0;
            }),
            0);
  EXPECT_TRUE(IsRung(epfd)) << "by the child, for the side that its parent has attached";
  close(epfd);
  for (const uint32_t index : {kUsed, kUnused}) ReleaseTalkIfUnused(index);
  socket.side()->talk.store(kMaxTalks);
}

TEST(TalksForkTest, KeptPlaceIsGivenAwayWhenItsSideIsOnTcpAgain) {
  StartDoorbell();
  ASSERT_TRUE(MapAgentMemory());
  FollowedSocket socket;
  ASSERT_TRUE(socket.Attach());
  TalkAt(0);
  socket.side()->talk.store(0);
  EXPECT_EQ(InForkedChild([&] {
              if (!agent.talks[0].in_use) return 1;
              ReleaseKeptTalks();
              if (!agent.talks[0].in_use) return 2;
              socket.Detach();
              ReleaseKeptTalks();
              return agent.talks[0].in_use ? 3 : 0;
            }),
            0);
  ReleaseTalkIfUnused(0);
}

}  // namespace
}  // namespace xenloop

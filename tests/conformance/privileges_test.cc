// PR_SET_NO_NEW_PRIVS in a process that has epoll sets: what was made before and after it works on,
// and connections that are made later are as fast as any.

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

bool GivePrivilegesUp() { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0; }

// Both ends of a connection, in this process.
struct BothEnds {
  FileDescriptor listener = ListenOn(Loopback(AF_INET));
  FileDescriptor client{socket(AF_INET, SOCK_STREAM, 0)};
  FileDescriptor server;

  bool Connect() {
    const Address address = LocalName(listener.get());
    CHILD_CHECK(connect(client.get(), address.get(), address.length) == 0);
    server = FileDescriptor(accept(listener.get(), nullptr, nullptr));
    CHILD_CHECK(server.get() >= 0);
    return true;
  }
  // The server's end is in the set, and then upgraded.
  bool ConnectInto(EpollSet* set) {
    CHILD_CHECK(Connect());
    CHILD_CHECK(set->Add(server.get(), EPOLLIN) == Done(0));
    CHILD_CHECK(UpgradeIfWanted(client.get()));
    return true;
  }
  bool IsAsFastAsCanBe() const {
    return CurrentMode() != Mode::kLocal ||
           Routes(server.get()) == (kSendsByFifo | kReceivesFromFifo);
  }
  // Bytes from the client to the server, which waits for them in `wait`.
  template <typename Wait>
  bool Carries(Wait wait) {
    ByteStream sent(kSeedToPeer);
    ByteStream received(kSeedToPeer);
    for (int i = 0; i < 20; ++i) {
      auto waits = InThread(wait);
      if (i == 0) CHILD_CHECK(StillBlocked(waits));
      CHILD_CHECK(SendBytes(client.get(), &sent, 100).bytes == 100);
      CHILD_CHECK(waits.get());
      CHILD_CHECK(ReceiveBytes(server.get(), &received, 100).bytes == 100);
      MarkedPoint(server.get());
    }
    return true;
  }
  bool CarriesTo(const EpollSet& set) {
    return Carries([&set] { return set.Next() == EPOLLIN; });
  }
};

// In a process of its own: privileges do not come back.
void InAFreshProcess(bool (*work)()) {
  ChildProcess child(work);
  EXPECT_TRUE(child.Succeeded());
}

TEST(PrivilegesTest, SetMadeBefore) {
  InAFreshProcess([] {
    EpollSet set;
    CHILD_CHECK(GivePrivilegesUp());
    BothEnds ends;
    CHILD_CHECK(ends.ConnectInto(&set));
    CHILD_CHECK(ends.CarriesTo(set));
    return ends.IsAsFastAsCanBe();
  });
}

TEST(PrivilegesTest, SetMadeBehindIt) {
  InAFreshProcess([] {
    CHILD_CHECK(GivePrivilegesUp());
    EpollSet set;
    BothEnds ends;
    CHILD_CHECK(ends.ConnectInto(&set));
    CHILD_CHECK(ends.CarriesTo(set));
    return ends.IsAsFastAsCanBe();
  });
}

TEST(PrivilegesTest, AsleepInTheSetMeanwhile) {
  InAFreshProcess([] {
    EpollSet set;
    CHILD_CHECK(GivePrivilegesUp());
    auto waits = InThread([&set] { return set.Next() == EPOLLIN; });
    CHILD_CHECK(StillBlocked(waits));
    BothEnds ends;
    CHILD_CHECK(ends.ConnectInto(&set));
    CHILD_CHECK(StillBlocked(waits));
    CHILD_CHECK(send(ends.client.get(), "x", 1, 0) == 1);
    CHILD_CHECK(waits.get());
    return ends.IsAsFastAsCanBe();
  });
}

TEST(PrivilegesTest, ConnectionOfBeforeStaysInItsSet) {
  InAFreshProcess([] {
    EpollSet set;
    BothEnds ends;
    CHILD_CHECK(ends.ConnectInto(&set));
    CHILD_CHECK(ends.CarriesTo(set));
    CHILD_CHECK(GivePrivilegesUp());
    BothEnds later;
    CHILD_CHECK(later.Connect());
    CHILD_CHECK(UpgradeIfWanted(later.client.get()));  // first, other than in the other tests
    CHILD_CHECK(set.Add(later.server.get(), EPOLLIN) == Done(0));
    CHILD_CHECK(later.CarriesTo(set));
    CHILD_CHECK(later.IsAsFastAsCanBe());
    CHILD_CHECK(send(ends.client.get(), "x", 1, 0) == 1);
    CHILD_CHECK(set.NextWith(EPOLLIN) == EPOLLIN);
    char byte;
    return recv(ends.server.get(), &byte, 1, 0) == 1 && byte == 'x';
  });
}

TEST(PrivilegesTest, SetInASet) {
  InAFreshProcess([] {
    EpollSet inner, outer;
    CHILD_CHECK(outer.Add(inner.fd(), EPOLLIN) == Done(0));
    CHILD_CHECK(GivePrivilegesUp());
    BothEnds ends;
    CHILD_CHECK(ends.ConnectInto(&inner));
    CHILD_CHECK(ends.CarriesTo(outer));
    return ends.IsAsFastAsCanBe();
  });
}

// Nobody can tell in time who waits by another number, or for the set: its connections may stay on
// TCP, and must be heard of.
TEST(PrivilegesTest, DuplicatedWatchedAndPolledBehindIt) {
  InAFreshProcess([] {
    EpollSet duplicated, watched, outer, polled;
    CHILD_CHECK(GivePrivilegesUp());
    EpollSet copy(FileDescriptor(dup(duplicated.fd())));
    CHILD_CHECK(duplicated.Close() == 0);
    CHILD_CHECK(outer.Add(watched.fd(), EPOLLIN) == Done(0));
    auto polls = InThread([&polled] { return BecomesReadable(polled.fd()); });
    CHILD_CHECK(StillBlocked(polls));
    BothEnds ends;
    CHILD_CHECK(ends.Connect());
    for (EpollSet* const set : {&copy, &watched, &polled})
      CHILD_CHECK(set->Add(ends.server.get(), EPOLLIN) == Done(0));
    if (CurrentMode() == Mode::kSwitching) CHILD_CHECK(UpgradeIfWanted(ends.client.get()));
    CHILD_CHECK(send(ends.client.get(), "x", 1, 0) == 1);
    CHILD_CHECK(polls.get());
    CHILD_CHECK(copy.Next() == EPOLLIN);
    CHILD_CHECK(outer.Next() == EPOLLIN);
    return true;
  });
}

}  // namespace
}  // namespace conformance

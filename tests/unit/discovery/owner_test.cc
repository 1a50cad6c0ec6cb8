// Whose socket is at the other end? Asked of real connections.
#include "discovery/owner.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gtest/gtest.h"

namespace xenloop {
namespace {

// A TCP connection to ourselves; empty if the family is not available.
class Connection {
 public:
  Connection(int listen_family, const char* listen_address, int family, const char* address) {
    sockaddr_storage name = {};
    socklen_t length = Fill(listen_family, listen_address, 0, &name);
    const int listener = socket(listen_family, SOCK_STREAM, 0);
    if (bind(listener, reinterpret_cast<sockaddr*>(&name), length) == 0 &&
        listen(listener, 1) == 0) {
      getsockname(listener, reinterpret_cast<sockaddr*>(&name), &length);
      const uint16_t port =
          ntohs(listen_family == AF_INET ? reinterpret_cast<sockaddr_in&>(name).sin_port
                                         : reinterpret_cast<sockaddr_in6&>(name).sin6_port);
      client_ = socket(family, SOCK_STREAM, 0);
      length = Fill(family, address, port, &name);
      if (connect(client_, reinterpret_cast<sockaddr*>(&name), length) == 0) {
        server_ = accept(listener, nullptr, nullptr);
      }
    }
    close(listener);
  }
  ~Connection() {
    close(client_);
    close(server_);
  }
  explicit operator bool() const { return server_ >= 0; }
  static Tuple NameOf(int fd) {
    Tuple tuple;
    sockaddr_storage name = {};
    socklen_t length = sizeof name;
    getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length);
    ToEndpoint(name, &tuple.local);
    length = sizeof name;
    getpeername(fd, reinterpret_cast<sockaddr*>(&name), &length);
    ToEndpoint(name, &tuple.peer);
    return tuple;
  }
  Tuple client() const { return NameOf(client_); }
  Tuple server() const { return NameOf(server_); }
  int client_fd() const { return client_; }

 private:
  static socklen_t Fill(int family, const char* address, uint16_t port, sockaddr_storage* name) {
    *name = {};
    name->ss_family = static_cast<sa_family_t>(family);
    if (family == AF_INET) {
      auto& v4 = reinterpret_cast<sockaddr_in&>(*name);
      v4.sin_port = htons(port);
      inet_pton(AF_INET, address, &v4.sin_addr);
      return sizeof v4;
    }
    auto& v6 = reinterpret_cast<sockaddr_in6&>(*name);
    v6.sin6_port = htons(port);
    inet_pton(AF_INET6, address, &v6.sin6_addr);
    return sizeof v6;
  }
  int client_ = -1;
  int server_ = -1;
};

constexpr uid_t kNobody = 65534;

void ExpectBothEndsAreOurs(const Connection& connection) {
  EXPECT_TRUE(SameTuple(connection.client(), Reversed(connection.server())));
  for (const Tuple& tuple : {connection.client(), connection.server()}) {
    uid_t uid = kNobody;
    EXPECT_EQ(OwnerOf(tuple, &uid), 0);
    EXPECT_EQ(uid, geteuid());
  }
}

TEST(OwnerOf, BothEndsOfAnIpv4Connection) {
  const Connection connection(AF_INET, "127.0.0.1", AF_INET, "127.0.0.1");
  ASSERT_TRUE(connection);
  ExpectBothEndsAreOurs(connection);
}

TEST(OwnerOf, BothEndsOfAnIpv6Connection) {
  const Connection connection(AF_INET6, "::1", AF_INET6, "::1");
  if (!connection) GTEST_SKIP() << "no IPv6 here";
  ExpectBothEndsAreOurs(connection);
}

TEST(OwnerOf, V4ClientOfADualStackServer) {
  const Connection connection(AF_INET6, "::", AF_INET, "127.0.0.1");
  if (!connection) GTEST_SKIP() << "no IPv6 here";
  EXPECT_TRUE(connection.server().local.IsV4());
  ExpectBothEndsAreOurs(connection);
}

TEST(OwnerOf, MappedClientOfAV4Server) {
  const Connection connection(AF_INET, "127.0.0.1", AF_INET6, "::ffff:127.0.0.1");
  if (!connection) GTEST_SKIP() << "no IPv6 here";
  ExpectBothEndsAreOurs(connection);
}

TEST(OwnerOf, AnotherUsersSocket) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to act as another user";
  int report[2];
  int hold[2];
  ASSERT_EQ(pipe(report), 0);
  ASSERT_EQ(pipe(hold), 0);
  const pid_t child = fork();
  if (child == 0) {
    if (setgid(kNobody) != 0 || setuid(kNobody) != 0) _exit(1);
    const Connection connection(AF_INET, "127.0.0.1", AF_INET, "127.0.0.1");
    const Tuple tuple = connection.client();
    if (!connection || write(report[1], &tuple, sizeof tuple) != sizeof tuple) _exit(1);
    close(hold[1]);
    char byte;
    _exit(read(hold[0], &byte, 1) == 0 ? 0 : 1);
  }
  Tuple tuple;
  ASSERT_EQ(read(report[0], &tuple, sizeof tuple), static_cast<ssize_t>(sizeof tuple));
  uid_t uid = 0;
  EXPECT_EQ(OwnerOf(tuple, &uid), 0);
  EXPECT_EQ(uid, kNobody);
  uid = 0;
  EXPECT_EQ(OwnerOf(Reversed(tuple), &uid), 0);
  EXPECT_EQ(uid, kNobody);
  close(hold[1]);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  for (const int fd : {report[0], report[1], hold[0]}) close(fd);
}

// In the listener's queue, accepted, closed; and the listener's own account of its queue.
TEST(ArrivalOf, TellsWhatWaitsToBeAccepted) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_storage name = {};
  socklen_t length = sizeof name;
  ASSERT_EQ(listen(listener, 5), 0);
  getsockname(listener, reinterpret_cast<sockaddr*>(&name), &length);
  reinterpret_cast<sockaddr_in&>(name).sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int client = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(connect(client, reinterpret_cast<sockaddr*>(&name), length), 0);
  Tuple tuple;
  ToEndpoint(name, &tuple.local);
  getsockname(client, reinterpret_cast<sockaddr*>(&name), &length);
  ToEndpoint(name, &tuple.peer);
  Tuple nobodys = tuple;
  nobodys.peer.port = 0;

  Arrival arrival;
  ASSERT_EQ(ArrivalOf(tuple, &arrival), 0);
  EXPECT_TRUE(arrival.WaitsForAccept());
  ASSERT_EQ(ArrivalOf(nobodys, &arrival), 0);
  EXPECT_TRUE(arrival.is_listener);
  EXPECT_FALSE(arrival.WaitsForAccept());
  EXPECT_EQ(arrival.waiting, 1u);

  const int accepted = accept(listener, nullptr, nullptr);
  ASSERT_EQ(ArrivalOf(tuple, &arrival), 0);
  EXPECT_FALSE(arrival.is_listener);
  EXPECT_FALSE(arrival.WaitsForAccept());
  close(accepted);
  ASSERT_EQ(ArrivalOf(tuple, &arrival), 0);
  EXPECT_FALSE(arrival.WaitsForAccept());
  ASSERT_EQ(ArrivalOf(nobodys, &arrival), 0);
  EXPECT_EQ(arrival.waiting, 0u);
  close(listener);
  close(client);
  EXPECT_EQ(ArrivalOf(nobodys, &arrival), -ENOENT);
}

TEST(OwnerOf, NoSuchSocket) {
  const Connection connection(AF_INET, "127.0.0.1", AF_INET, "127.0.0.1");
  Tuple tuple = connection.client();
  tuple.peer.port = 1;
  uid_t uid = kNobody;
  EXPECT_EQ(OwnerOf(tuple, &uid), -ENOENT);
  tuple = connection.client();
  tuple.local.address[15] = 77;
  EXPECT_EQ(OwnerOf(tuple, &uid), -ENOENT);
  EXPECT_EQ(uid, kNobody);
}

TEST(OwnerOf, ListenerIsNotTakenForAConnection) {
  // Its owner must not vouch for a connection that does not exist.
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in name = {};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  sockaddr_storage storage = {};
  socklen_t length = sizeof storage;
  getsockname(listener, reinterpret_cast<sockaddr*>(&storage), &length);
  Tuple tuple;
  ToEndpoint(storage, &tuple.local);
  tuple.peer = tuple.local;
  tuple.peer.port = 1;
  uid_t uid = kNobody;
  EXPECT_EQ(OwnerOf(tuple, &uid), -ENOENT);
  close(listener);
}

// ---- UDP ----

// A UDP socket on 127.0.0.1 at a port of the kernel's choice.
class DatagramEnd {
 public:
  DatagramEnd() : fd_(socket(AF_INET, SOCK_DGRAM, 0)) {
    sockaddr_in name = {};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  }
  ~DatagramEnd() { close(fd_); }
  DatagramEnd(const DatagramEnd&) = delete;
  DatagramEnd& operator=(const DatagramEnd&) = delete;
  uint32_t number() const { return static_cast<uint32_t>(fd_); }
  Endpoint Name() const {
    sockaddr_storage name = {};
    socklen_t length = sizeof name;
    getsockname(fd_, reinterpret_cast<sockaddr*>(&name), &length);
    Endpoint end;
    ToEndpoint(name, &end);
    return end;
  }
  void ConnectTo(const DatagramEnd& other) const {
    sockaddr_storage name = {};
    socklen_t length = sizeof name;
    getsockname(other.fd_, reinterpret_cast<sockaddr*>(&name), &length);
    ASSERT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&name), length), 0);
  }

 private:
  const int fd_;
};

TEST(ReceiverOfDatagrams, IsTheSocketThatHasTheName) {
  const DatagramEnd sender;
  const DatagramEnd receiver;
  const DatagramEnd third;
  DatagramSocket found;
  ASSERT_EQ(ReceiverOfDatagrams(Tuple{sender.Name(), receiver.Name()}, &found), 0);
  EXPECT_EQ(found.uid, geteuid());
  EXPECT_TRUE(HasSocketAt(getpid(), receiver.number(), found.inode));
  EXPECT_FALSE(HasSocketAt(getpid(), sender.number(), found.inode));
  EXPECT_FALSE(HasSocketAt(getpid(), 12345, found.inode));
  EXPECT_FALSE(HasSocketAt(1 << 30, receiver.number(), found.inode));
  EXPECT_FALSE(HasSocketAt(0, receiver.number(), found.inode));
  EXPECT_FALSE(IsSocketGone(getpid(), receiver.number(), found.inode));
  EXPECT_TRUE(IsSocketGone(getpid(), sender.number(), found.inode));
  EXPECT_TRUE(IsSocketGone(getpid(), 12345, found.inode));
  EXPECT_TRUE(IsSocketGone(1 << 30, receiver.number(), found.inode));
  EXPECT_FALSE(IsSocketGone(0, receiver.number(), found.inode)) << "nobody can tell";
}

TEST(ReceiverOfDatagrams, IsNoneThatIsConnectedElsewhere) {
  const DatagramEnd sender;
  const DatagramEnd receiver;
  const DatagramEnd third;
  receiver.ConnectTo(third);
  DatagramSocket found;
  EXPECT_EQ(ReceiverOfDatagrams(Tuple{sender.Name(), receiver.Name()}, &found), -ENOENT);
  EXPECT_EQ(ReceiverOfDatagrams(Tuple{third.Name(), receiver.Name()}, &found), 0);
  EXPECT_TRUE(HasSocketAt(getpid(), receiver.number(), found.inode));
}

TEST(ReceiverOfDatagrams, OfNobodysPortIsNone) {
  Tuple tuple;
  {
    const DatagramEnd sender;
    const DatagramEnd receiver;
    tuple = Tuple{sender.Name(), receiver.Name()};
  }
  DatagramSocket found;
  EXPECT_EQ(ReceiverOfDatagrams(tuple, &found), -ENOENT);
}

}  // namespace
}  // namespace xenloop

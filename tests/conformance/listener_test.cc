// Servers: workers forked before the connections come and sharing one listener, SO_REUSEPORT
// groups, a child for every connection; connections that wait, end or are refused at the listener.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr int kWorkers = 3;
constexpr int kConnections = 12;
constexpr size_t kBytes = 100 * 1000;

bool ServeConnection(int fd) {
  ByteStream received(kSeedToPeer), sent(kSeedFromPeer);
  return EchoBytes(fd, &received, &sent, kToEnd, {0, 0}).error == 0;
}

// One client of an echo server, from connect to close.
class Client {
 public:
  explicit Client(const Address& server) : fd_(socket(server.family(), SOCK_STREAM, 0)) {
    EXPECT_EQ(Call(connect(fd_.get(), server.get(), server.length)), Done(0));
  }

  int fd() const { return fd_.get(); }
  void Upgrade() { EXPECT_TRUE(UpgradeIfWanted(fd())) << strerrorname_np(errno); }
  void Transfer(size_t bytes) {
    const Transferred all = ExchangeBytes(fd(), &sent_, &received_, bytes, {30000, 3});
    EXPECT_EQ(all.bytes, bytes);
    EXPECT_EQ(all.error, 0) << strerrorname_np(all.error);
  }
  void End() {
    EXPECT_EQ(Call(shutdown(fd(), SHUT_WR)), Done(0));
    char byte;
    EXPECT_EQ(Call(recv(fd(), &byte, 1, 0)), Done(0));
  }

 private:
  FileDescriptor fd_;
  ByteStream sent_{kSeedToPeer};
  ByteStream received_{kSeedFromPeer};
};

class ListenerTest : public testing::TestWithParam<int> {
 protected:
  // A connection is accepted when its first byte has come back: only then can it be upgraded.
  static void UseOneAfterAnother(const Address& server) {
    for (int i = 0; i < kConnections; ++i) {
      Client client(server);
      client.Transfer(1);
      client.Upgrade();
      client.Transfer(kBytes);
      client.End();
    }
  }
  static void UseAtOnce(const Address& server, int connections) {
    std::vector<BackgroundCall<void>> clients;
    for (int i = 0; i < connections; ++i) {
      clients.push_back(InThread([&server] {
        Client client(server);
        client.Transfer(1);
        client.Upgrade();
        client.Transfer(kBytes);
        MarkedPoint(client.fd());
        client.Transfer(kBytes);
        client.End();
      }));
    }
    for (auto& client : clients) client.get();
  }
};
INSTANTIATE_TEST_SUITE_P(, ListenerTest, testing::Values(AF_INET, AF_INET6),
                         [](const auto& of) { return of.param == AF_INET ? "Ipv4" : "Ipv6"; });

TEST_P(ListenerTest, WorkersShareAListener) {
  const FileDescriptor listener = ListenOn(Loopback(GetParam()));
  std::vector<std::unique_ptr<ChildProcess>> workers;
  for (int i = 0; i < kWorkers; ++i) {
    workers.push_back(std::make_unique<ChildProcess>([&] {
      for (;;) {
        const FileDescriptor fd(accept(listener.get(), nullptr, nullptr));
        CHILD_CHECK(fd.get() >= 0);
        CHILD_CHECK(ServeConnection(fd.get()));
      }
    }));
  }
  UseOneAfterAnother(LocalName(listener.get()));
  UseAtOnce(LocalName(listener.get()), kWorkers);
}

// Many connections a worker, by an epoll set of its own; the listener is in every set.
TEST_P(ListenerTest, WorkersWithEpollAndExclusiveListener) {
  const FileDescriptor listener = ListenOn(Loopback(GetParam()));
  ASSERT_EQ(fcntl(listener.get(), F_SETFL, O_RDWR | O_NONBLOCK), 0);
  std::vector<std::unique_ptr<ChildProcess>> workers;
  for (int i = 0; i < kWorkers; ++i) {
    workers.push_back(std::make_unique<ChildProcess>([&] {
      struct Connection {
        int fd;
        ByteStream received{kSeedToPeer}, sent{kSeedFromPeer};
        size_t owed = 0;
        bool ended = false;
      };
      EpollSet set;
      CHILD_CHECK(set.Add(listener.get(), EPOLLIN | EPOLLEXCLUSIVE) == Done(0));
      std::vector<char> buffer(20000);
      for (;;) {
        for (const epoll_event& event : set.Wait(-1)) {
          auto* connection = static_cast<Connection*>(event.data.ptr);
          if (connection == nullptr) {
            const int fd = accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK);
            if (fd < 0) continue;  // another worker was first
            connection = new Connection{fd};
            set.Add(fd, EPOLLIN, reinterpret_cast<uintptr_t>(connection));
            continue;
          }
          const int fd = connection->fd;
          if ((event.events & EPOLLIN) != 0 && !connection->ended) {
            const ssize_t count = recv(fd, buffer.data(), buffer.size(), 0);
            CHILD_CHECK(count >= 0);
            CHILD_CHECK(connection->received.Take(buffer.data(), count));
            connection->owed += count;
            connection->ended = count == 0;
          }
          while (connection->owed > 0) {
            const size_t size = std::min(connection->owed, buffer.size());
            connection->sent.Fill(buffer.data(), size);
            const ssize_t count = send(fd, buffer.data(), size, MSG_NOSIGNAL);
            if (count < 0) break;
            connection->sent.Advance(count);
            connection->owed -= count;
          }
          if (connection->owed == 0 && connection->ended) {
            close(fd);
            delete connection;
            continue;
          }
          const uint32_t in = connection->ended ? 0u : EPOLLIN;
          const uint32_t out = connection->owed > 0 ? EPOLLOUT : 0u;
          set.Modify(fd, in | out, event.data.u64);
        }
      }
    }));
  }
  UseOneAfterAnother(LocalName(listener.get()));
  UseAtOnce(LocalName(listener.get()), 8);
}

TEST_P(ListenerTest, ReuseportGroup) {
  const int on = 1;
  // Bound, but not listening: keeps the port for the group.
  const FileDescriptor holder(socket(GetParam(), SOCK_STREAM, 0));
  ASSERT_EQ(setsockopt(holder.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
  const Address any = Loopback(GetParam());
  ASSERT_EQ(bind(holder.get(), any.get(), any.length), 0);
  const Address name = LocalName(holder.get());
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const FileDescriptor ready_out(ready[0]), ready_in(ready[1]);
  std::vector<std::unique_ptr<ChildProcess>> workers;
  for (int i = 0; i < kWorkers; ++i) {
    workers.push_back(std::make_unique<ChildProcess>([&] {
      const FileDescriptor own(socket(GetParam(), SOCK_STREAM, 0));
      CHILD_CHECK(setsockopt(own.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0);
      CHILD_CHECK(bind(own.get(), name.get(), name.length) == 0);
      CHILD_CHECK(listen(own.get(), 16) == 0);
      CHILD_CHECK(write(ready_in.get(), "r", 1) == 1);
      for (;;) {
        const FileDescriptor fd(accept(own.get(), nullptr, nullptr));
        CHILD_CHECK(fd.get() >= 0);
        CHILD_CHECK(ServeConnection(fd.get()));
      }
    }));
    char byte;
    ASSERT_EQ(read(ready_out.get(), &byte, 1), 1);
  }
  UseOneAfterAnother(name);
}

TEST_P(ListenerTest, ChildForEveryConnection) {
  const FileDescriptor listener = ListenOn(Loopback(GetParam()));
  ChildProcess server([&] {
    for (;;) {
      const FileDescriptor fd(accept(listener.get(), nullptr, nullptr));
      CHILD_CHECK(fd.get() >= 0);
      if (fork() == 0) {
        close(listener.get());
        _exit(ServeConnection(fd.get()) ? 0 : 1);
      }
      while (waitpid(-1, nullptr, WNOHANG) > 0) {
      }
    }
  });
  UseOneAfterAnother(LocalName(listener.get()));
  UseAtOnce(LocalName(listener.get()), 4);
}

TEST_P(ListenerTest, AcceptWaitsAndNamesTheClient) {
  const FileDescriptor listener = ListenOn(Loopback(GetParam()));
  Address seen;
  seen.length = sizeof(seen.storage);
  auto call = InThread([&] {
    return accept(listener.get(), reinterpret_cast<sockaddr*>(&seen.storage), &seen.length);
  });
  EXPECT_TRUE(StillBlocked(call));
  Client client(LocalName(listener.get()));
  const FileDescriptor accepted(call.get());
  ASSERT_GE(accepted.get(), 0);
  EXPECT_EQ(seen.text(), LocalName(client.fd()).text());
  EXPECT_EQ(seen.length, LocalName(client.fd()).length);
  EXPECT_EQ(seen.text(), RemoteName(accepted.get()).text());
  EXPECT_EQ(RemoteName(client.fd()).text(), LocalName(accepted.get()).text());
}

TEST_P(ListenerTest, DataAndEndBeforeTheAccept) {
  const FileDescriptor listener = ListenOn(Loopback(GetParam()));
  ByteStream sent(kSeedToPeer), received(kSeedToPeer);
  {
    Client client(LocalName(listener.get()));
    EXPECT_EQ(SendBytes(client.fd(), &sent, 5000).bytes, 5000u);
  }
  const FileDescriptor accepted(accept(listener.get(), nullptr, nullptr));
  MarkedPoint(accepted.get());
  const Transferred all = ReceiveBytes(accepted.get(), &received, kToEnd);
  EXPECT_EQ(all.bytes, 5000u);
  EXPECT_EQ(all.error, 0);
}

TEST_P(ListenerTest, ClosedListenerResetsWhatItHadNotAccepted) {
  FileDescriptor listener = ListenOn(Loopback(GetParam()));
  Client client(LocalName(listener.get()));
  listener.Close();
  char byte;
  EXPECT_EQ(Call(recv(client.fd(), &byte, 1, 0)), Failed(ECONNRESET));
}

TEST_P(ListenerTest, ListenerIsNotAConnection) {
  const FileDescriptor listener = ListenOn(Loopback(GetParam()));
  char byte = 0;
  EXPECT_EQ(Call(recv(listener.get(), &byte, 1, 0)), Failed(ENOTCONN));
  EXPECT_EQ(Call(send(listener.get(), &byte, 1, MSG_NOSIGNAL)), Failed(EPIPE));
  int accepting = 0;
  socklen_t length = sizeof(accepting);
  ASSERT_EQ(getsockopt(listener.get(), SOL_SOCKET, SO_ACCEPTCONN, &accepting, &length), 0);
  EXPECT_EQ(accepting, 1);
  EXPECT_EQ(Revents(listener.get(), POLLIN | POLLOUT, 0), 0);
  Client client(LocalName(listener.get()));
  EXPECT_EQ(Revents(listener.get(), POLLIN | POLLOUT, kSoonMs), POLLIN);
  EXPECT_EQ(Call(accept(client.fd(), nullptr, nullptr)), Failed(EINVAL));
}

}  // namespace
}  // namespace conformance

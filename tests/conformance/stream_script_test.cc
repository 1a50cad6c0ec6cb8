// A random script of what one thread does to the two ends of a connection and to the epoll sets
// that watch them, carried out twice: on a connection that may be accelerated, and on one that
// nobody asks to be. Whatever the kernel answers on the second is what the first must answer. The
// seed is the run's (XENLOOP_CONFORMANCE_SEED).

#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <random>
#include <string>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/pair.h"

namespace conformance {
namespace {

constexpr size_t kMostUnread = 60000;  // either way takes as much at once, whatever its room

// One end: its socket, the sets that watch it, and what is under way to it.
struct End {
  FileDescriptor socket;
  EpollSet level, edge, once;
  EpollSet second;         // level-triggered, and empty at first
  uint32_t next_byte = 0;  // that it sends
  size_t unread = 0;
  bool sends = true;  // it has not ended its direction
  // With a low-water mark, or after the other's end, the kernel tells now and then of nothing but
  // room that was there, for bytes that are read already. After an end of its own it tells all anew
  // when the acknowledgement comes, which may have been put off.
  bool open_ended = false;
};

// One of the two worlds.
class World {
 public:
  explicit World(bool plain) : plain_(plain) { Reopen(); }

  std::string Do(unsigned what, unsigned which, unsigned much) {
    End& end = ends_[which];
    End& other = ends_[1 - which];
    switch (what) {
      case 0:
      case 1:
      case 2:
        return Send(&end, &other, 1 + much % 3000, much % 2 == 0);
      case 3:
      case 4:
        return Receive(&end, 1 + much % 4000, 0);
      case 5:
        return Receive(&end, 1 + much % 4000, MSG_PEEK);
      case 6:
        return ReceivePieces(&end, 1 + much % 2000);
      case 7:
        return Queued(end);
      case 8:
        return "poll " + std::to_string(Revents(end.socket.get(), POLLIN | POLLOUT | POLLRDHUP, 0));
      case 9:
        return Selected(end);
      case 10:
        return Events("level", end.level) + Events(" second", end.second);
      case 11:
      case 12:
        return end.sends ? Events("edge", end.edge, end.open_ended) : "";
      case 13:
        return Events("once", end.once);
      case 14:
        return Text(end.once.Modify(end.socket.get(), kMasks[much % 4] | EPOLLONESHOT));
      case 15:
        return Text(end.edge.Modify(end.socket.get(), kMasks[much % 4] | EPOLLET));
      default:
        return Change(&end, &other, much % 8, much / 8);
    }
  }
  void Reopen() {
    const FileDescriptor listener = ListenOn(Loopback(AF_INET));
    const Address address = LocalName(listener.get());
    FileDescriptor sockets[2];
    sockets[0] = FileDescriptor(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(Call(connect(sockets[0].get(), address.get(), address.length)), Done(0));
    sockets[1] = FileDescriptor(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    for (int i = 0; i < 2; ++i) {
      ends_[i] = End();
      End& end = ends_[i];
      end.socket = std::move(sockets[i]);
      if (plain_) StayOnTcp(end.socket.get());
      const int on = 1;
      setsockopt(end.socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      end.level.Add(end.socket.get(), EPOLLIN | EPOLLRDHUP);
      end.edge.Add(end.socket.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
      end.once.Add(end.socket.get(), EPOLLIN | EPOLLONESHOT);
    }
    Meet();
  }
  // Bytes each way, until the routes are what they will be; then no set has anything to say.
  void Meet() {
    for (const End& end : ends_) {
      if (!plain_) UpgradeIfWanted(end.socket.get());
    }
    Exchange();
    const Stopwatch stopwatch;
    while (!HaveMet() && stopwatch.ElapsedMs() < kSoonMs) Exchange();
  }
  bool HaveMet() const {
    if (plain_) return Routes(ends_[0].socket.get()) <= 0 && Routes(ends_[1].socket.get()) <= 0;
    if (CurrentMode() != Mode::kLocal) return true;
    const int both = kSendsByFifo | kReceivesFromFifo;
    return Routes(ends_[0].socket.get()) == both && Routes(ends_[1].socket.get()) == both;
  }
  // Nothing is left under way. In mode switching the accelerated connection then takes another
  // route; the script goes on when it has taken it, for what is on its way between two routes comes
  // when it comes.
  void Rest() {
    for (End& end : ends_) {
      const int one = 1;
      setsockopt(end.socket.get(), SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one);
      while (end.unread > 0) Receive(&end, end.unread, 0);
      if (!plain_) MarkedPoint(end.socket.get());
    }
    if (ends_[0].sends && ends_[1].sends) Exchange();
  }

 private:
  void Exchange() {
    for (int i = 0; i < 2; ++i) {
      Send(&ends_[i], &ends_[1 - i], 1, false);
      EXPECT_TRUE(BecomesReadable(ends_[1 - i].socket.get()));
      Receive(&ends_[1 - i], 1, 0);
    }
    for (End& end : ends_) {
      while (!end.edge.Quiet()) {  // the agents may still be at work
      }
      end.next_byte = 0;
    }
  }
  // Who asks for what only the kernel has stays with it. The answer does not matter.
  static void StayOnTcp(int fd) {
    char request[8] = {};
    socklen_t length = sizeof request;
    getsockopt(fd, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, request, &length);
  }
  static constexpr uint32_t kMasks[4] = {EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT,
                                         EPOLLIN | EPOLLRDHUP};

  static std::string Send(End* from, End* to, size_t bytes, bool in_pieces) {
    if (to->unread + bytes > kMostUnread) return "";
    std::string text(bytes, 0);
    for (char& c : text) c = static_cast<char>(from->next_byte++ % 251);
    const iovec pieces[2] = {{text.data(), bytes / 2}, {&text[bytes / 2], bytes - bytes / 2}};
    const Outcome sent =
        in_pieces ? Call(writev(from->socket.get(), pieces, 2))
                  : Call(send(from->socket.get(), text.data(), bytes, MSG_NOSIGNAL | MSG_DONTWAIT));
    if (sent.value > 0) to->unread += static_cast<size_t>(sent.value);
    return Text(sent);
  }
  static std::string Receive(End* end, size_t room, int flags) {
    std::string text(room, 0);
    const Outcome got = Call(recv(end->socket.get(), text.data(), room, flags | MSG_DONTWAIT));
    return Taken(end, &text, got, flags);
  }
  static std::string ReceivePieces(End* end, size_t room) {
    std::string text(room, 0);
    iovec pieces[2] = {{text.data(), room / 3}, {&text[room / 3], room - room / 3}};
    msghdr message = {};
    message.msg_iov = pieces;
    message.msg_iovlen = 2;
    const Outcome got = Call(recvmsg(end->socket.get(), &message, MSG_DONTWAIT));
    return Taken(end, &text, got, 0) + " flags " + std::to_string(message.msg_flags);
  }
  static std::string Taken(End* end, std::string* text, const Outcome& got, int flags) {
    text->resize(got.value > 0 ? static_cast<size_t>(got.value) : 0);
    if ((flags & MSG_PEEK) == 0) end->unread -= text->size();
    return Text(got) + " " + std::to_string(std::hash<std::string>()(*text));
  }
  static std::string Queued(const End& end) {
    int bytes = -1;
    return Text(Call(ioctl(end.socket.get(), FIONREAD, &bytes))) + " " + std::to_string(bytes);
  }
  static std::string Selected(const End& end) {
    fd_set in, out;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_SET(end.socket.get(), &in);
    FD_SET(end.socket.get(), &out);
    timeval now{0, 0};
    const Outcome ready = Call(select(end.socket.get() + 1, &in, &out, nullptr, &now));
    return "select " + Text(ready) + (FD_ISSET(end.socket.get(), &in) ? " in" : "") +
           (FD_ISSET(end.socket.get(), &out) ? " out" : "");
  }
  static std::string Events(const char* name, const EpollSet& set, bool but_room = false) {
    std::string all = name;
    for (const epoll_event& event : set.Wait(0)) {
      if (!but_room || event.events != EPOLLOUT) all += " " + std::to_string(event.events);
    }
    return all;
  }
  std::string Change(End* end, End* other, unsigned how, unsigned much) {
    const int low = static_cast<int>(1 + much % 2000);
    const int fd = end->socket.get();
    switch (how) {
      case 0:
        end->open_ended = true;
        return Text(Call(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low)));
      case 1:
        return Text(end->edge.Remove(fd)) + Text(end->edge.Add(fd, kMasks[much % 4] | EPOLLET));
      case 2:
        return Text(end->level.Modify(fd, kMasks[much % 4]));
      case 3:
        if (!end->sends || much % 4 != 0) return "";
        end->sends = false;
        other->open_ended = true;
        EXPECT_EQ(Call(shutdown(fd, SHUT_WR)), Done(0));
        EXPECT_NE(Revents(other->socket.get(), POLLRDHUP, kSoonMs) & POLLRDHUP, 0);
        return "";
      case 4:
        return Text(end->level.Remove(fd));
      case 5:
        return Text(end->level.Add(fd, kMasks[much % 4]));
      case 6:
        return much % 3 == 0 ? Text(end->second.Remove(fd))
                             : Text(end->second.Add(fd, kMasks[much % 4]));
      default:
        return Text(Call(send(fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL)));
    }
  }

  const bool plain_;
  End ends_[2];
};

TEST(StreamScriptTest, AnswersAreTheKernels) {
  signal(SIGPIPE, SIG_IGN);
  for (unsigned round = 0; round < 24; ++round) {
    std::mt19937 random(Seed() * 1000 + round);
    World world(false);
    World kernel(true);
    ASSERT_TRUE(world.HaveMet());
    std::string script;
    for (int step = 0; step < 100; ++step) {
      const auto what = static_cast<unsigned>(random() % (step % 3 == 2 ? 22 : 16));
      const auto which = static_cast<unsigned>(random() % 2);
      const auto much = static_cast<unsigned>(random());
      if (step % 20 == 19) {
        world.Rest();
        kernel.Rest();
        script += " 98,0,0";
      }
      script +=
          " " + std::to_string(what) + "," + std::to_string(which) + "," + std::to_string(much);
      const std::string expected = kernel.Do(what, which, much);
      ASSERT_EQ(world.Do(what, which, much), expected)
          << "round " << round << ", step " << step << ":" << script;
    }
    ASSERT_TRUE(kernel.HaveMet());
  }
}

}  // namespace
}  // namespace conformance

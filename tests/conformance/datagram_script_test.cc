// A random script of one sender, one receiver and what programs do to them, carried out twice: by
// sockets that may be accelerated, and by sockets that never are, since each has been duplicated.
// Whatever the kernel answers to the second is what the first must answer. The seed is the run's
// (XENLOOP_CONFORMANCE_SEED).

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <random>

#include "tests/conformance/datagram.h"
#include "tests/conformance/mode.h"

namespace conformance {
namespace {

// One of the two worlds.
class World {
 public:
  explicit World(bool plain) : plain_(plain), set_(epoll_create1(0)) {
    Follow(receiver_);
    Watch();
    Reopen();
  }

  std::string Do(int step, unsigned what, unsigned much) {
    const std::string text = std::to_string(step) + std::string(much % 1800, 'x');
    switch (what) {
      case 0:
      case 1:
      case 2:
        return Text(sender_.Send(text));
      case 3:
        return Text(sender_.SendTo(receiver_.Port(), text));
      case 4:
        return SendTwo(text);
      case 5:
      case 6:
        return Receive(0, 4000);
      case 7:
        return Receive(0, much % 20);
      case 8:
        return Receive(MSG_PEEK, 4000);
      case 9:
        return Receive(MSG_TRUNC, much % 9);
      case 10:
        return Queued();
      case 11:
        return "poll " + std::to_string(Revents(receiver_.fd(), POLLIN | POLLOUT, 0));
      case 12:
        return Ready();
      case 13:
        return ReceiveMany();
      default:
        return Change(much % 8);
    }
  }
  std::string Drain() {
    std::string all;
    for (std::string next = Receive(0, 4000); next != "EAGAIN"; next = Receive(0, 4000))
      all += next + "\n";
    return all;
  }
  void Meet() {
    if (plain_ || CurrentMode() == Mode::kNative || CurrentMode() == Mode::kRefused) return;
    UpgradeIfWanted(receiver_.fd());
    UpgradeIfWanted(sender_.fd());
    met_ += Routes(sender_.fd()) > 0 ? 1 : 0;
  }
  int met() const { return met_; }

 private:
  void Follow(const UdpSocket& socket) const {
    if (plain_) FileDescriptor twin(dup(socket.fd()));
  }
  void Watch() {
    epoll_event event{};
    event.events = EPOLLIN;
    epoll_ctl(set_.get(), EPOLL_CTL_ADD, receiver_.fd(), &event);
  }
  void Reopen(int result = 0) {
    EXPECT_EQ(result, 0);
    sender_ = UdpSocket();
    Follow(sender_);
    sender_.Connect(receiver_.Port());
  }
  std::string Receive(int flags, size_t room) {
    uint16_t from = 0;
    std::string text = receiver_.Receive(flags, room, &from);
    if (text == "EAGAIN" || text == "ECONNREFUSED") return text;
    return text + (from == sender_.Port() ? " from the sender" : " from another");
  }
  std::string Queued() const {
    int bytes = -1;
    return std::to_string(ioctl(receiver_.fd(), FIONREAD, &bytes)) + " " + std::to_string(bytes);
  }
  std::string Ready() const {
    epoll_event event{};
    const int n = epoll_wait(set_.get(), &event, 1, 0);
    return "epoll " + std::to_string(n) + " " + std::to_string(n > 0 ? event.events : 0);
  }
  std::string SendTwo(const std::string& text) const {
    iovec out[2] = {{const_cast<char*>(text.data()), text.size()}, {nullptr, 0}};
    mmsghdr messages[2] = {};
    for (int i = 0; i < 2; ++i) {
      messages[i].msg_hdr.msg_iov = &out[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    return Text(Call(sendmmsg(sender_.fd(), messages, 2, 0)));
  }
  std::string ReceiveMany() const {
    char buffers[3][2000];
    iovec in[3];
    mmsghdr messages[3] = {};
    for (int i = 0; i < 3; ++i) {
      in[i] = {buffers[i], sizeof buffers[i]};
      messages[i].msg_hdr.msg_iov = &in[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int n = recvmmsg(receiver_.fd(), messages, 3, MSG_DONTWAIT, nullptr);
    std::string all = std::to_string(n);
    for (int i = 0; i < n; ++i) all += " " + std::string(buffers[i], messages[i].msg_len);
    return all;
  }
  std::string Change(unsigned how) {
    const int bytes = 300000;
    switch (how) {
      case 0:
        Reopen();
        return "";
      case 1:
        sender_.Disconnect();
        return Text(sender_.Connect(receiver_.Port()));
      case 2:
        receiver_.Connect(sender_.Port());
        receiver_.Disconnect();  // and has lost its port, which it had not chosen
        Reopen(receiver_.Bind(0));
        return "";
      case 3:
        return Text(Call(setsockopt(receiver_.fd(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes)));
      case 4:
        return Text(Call(setsockopt(receiver_.fd(), IPPROTO_IP, IP_TTL, &how, 0)));
      case 5:
        return Text(Call(send(sender_.fd(), "more", 4, MSG_CONFIRM)));
      case 6:
        receiver_.SendTo(sender_.Port(), "answer");
        return sender_.Receive();
      default:
        return Text(Call(write(sender_.fd(), "", 0)));
    }
  }

  const bool plain_;
  UdpSocket receiver_;
  UdpSocket sender_;
  const FileDescriptor set_;
  int met_ = 0;
};

class DatagramScriptTest : public UdpFamilyTest {};
FOR_ALL_UDP_FAMILIES(DatagramScriptTest);

TEST_P(DatagramScriptTest, AnswersAreTheKernels) {
  int met = 0;
  for (unsigned round = 0; round < 40; ++round) {
    std::mt19937 random(Seed() * 1000 + round);
    World world(false);
    World kernel(true);
    for (int step = 0; step < 150; ++step) {
      if (step % 20 == 19) {
        ASSERT_EQ(world.Drain(), kernel.Drain()) << "round " << round << ", step " << step;
        world.Meet();  // nothing of an earlier FIFO is left
      }
      const auto what = static_cast<unsigned>(random() % (step % 8 == 7 ? 15 : 14));
      const auto much = static_cast<unsigned>(random());
      const std::string expected = kernel.Do(step, what, much);
      ASSERT_EQ(world.Do(step, what, much), expected)
          << "round " << round << ", step " << step << ", " << what << " " << much % 8;
    }
    met += world.met();
  }
  if (CurrentMode() == Mode::kLocal) {
    EXPECT_GT(met, 40);
  }
}

}  // namespace
}  // namespace conformance

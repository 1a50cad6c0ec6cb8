// A random script of two senders, one receiver and a third program, carried out twice: by sockets
// that may be accelerated, and by sockets that never are, since each has been duplicated. What each
// source is received to have sent, and what the program is told of it before, must be equal; in
// which order different sources come is no promise while some of them use the kernel (D-19).

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include <map>
#include <random>
#include <utility>
#include <vector>

#include "tests/conformance/datagram.h"
#include "tests/conformance/mode.h"

namespace conformance {
namespace {

// Another process: sends, and takes over a port that has become free. One letter and a port are an
// order, a line of text the answer.
class ThirdProgram {
 public:
  ThirdProgram() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    child_ = fork();
    if (child_ == 0) {
      close(ends[0]);
      Serve(ends[1]);
      _exit(0);
    }
    close(ends[1]);
    ours_ = FileDescriptor(ends[0]);
  }
  ~ThirdProgram() {
    ours_.Close();
    waitpid(child_, nullptr, 0);
  }
  ThirdProgram(const ThirdProgram&) = delete;
  ThirdProgram& operator=(const ThirdProgram&) = delete;

  // "s": sends to that port; "b": binds it; "r": receives there; "c": closes that.
  std::string Do(char what, uint16_t port) const {
    const char order[3] = {what, static_cast<char>(port >> 8), static_cast<char>(port)};
    EXPECT_EQ(send(ours_.get(), order, sizeof order, 0), 3);
    char answer[200];
    const ssize_t n = recv(ours_.get(), answer, sizeof answer, 0);
    return std::string(answer, n > 0 ? static_cast<size_t>(n) : 0);
  }

 private:
  static void Serve(int fd) {
    UdpSocket sender;
    UdpSocket successor(false);
    unsigned char order[3];
    while (recv(fd, order, sizeof order, 0) == 3) {
      const auto port = static_cast<uint16_t>(order[1] << 8 | order[2]);
      std::string answer = "done";
      if (order[0] == 's') answer = std::to_string(sender.SendTo(port, "third").value);
      if (order[0] == 'b') answer = std::to_string(successor.Bind(port));
      if (order[0] == 'r') answer = successor.Receive();
      if (order[0] == 'c') successor = UdpSocket(false);
      send(fd, answer.data(), answer.size(), 0);
    }
  }
  pid_t child_ = -1;
  FileDescriptor ours_;
};

// One of the two worlds.
class World {
 public:
  World(bool plain, const ThirdProgram& third) : plain_(plain), third_(third) { Reopen(); }

  // What is told of what was done; the same in both worlds.
  std::string Do(unsigned what, unsigned much, const std::string& text) {
    UdpSocket& sender = senders_[much % 2];
    switch (what) {
      case 0:
      case 1:
      case 2:
        return Text(sender.Send(text));
      case 3:
        return Text(sender.SendTo(receiver_.Port(), text));
      case 4:
        return SendSeveral(sender, text);
      case 5:
        return third_.Do('s', receiver_.Port());
      case 6: {  // another socket of the same program
        UdpSocket guest(much % 4 < 2);
        const Outcome sent = guest.SendTo(receiver_.Port(), text);
        Introduce(guest);
        return Text(sent);
      }
      case 7: {  // and has another port, since it had not chosen the first
        sender.Disconnect();
        const Outcome connected = sender.Connect(receiver_.Port());
        Introduce(sender);
        return Text(connected);
      }
      case 8:  // is received as it was sent
        sender = UdpSocket();
        Follow(sender);
        Introduce(sender);
        return Text(sender.Connect(receiver_.Port()));
      default: {
        const FileDescriptor twin(much % 8 == 0 ? dup(sender.fd()) : -1);
        return Text(Call(write(sender.fd(), text.data(), text.size())));
      }
    }
  }
  // Everything that is there, by source; how much, and whether it was told of.
  std::string Drain(unsigned how) {
    std::map<std::string, std::string> by_source;
    epoll_event event{};
    std::string told = std::to_string(Revents(receiver_.fd(), POLLIN, 0)) + "/" +
                       std::to_string(epoll_wait(set_.get(), &event, 1, 0)) + " ";
    for (;; ++how) {
      UdpAddress from;
      const std::string peeked = how % 3 == 0 ? receiver_.ReceiveFrom(&from, MSG_PEEK) : "";
      const std::string text =
          how % 3 == 1 ? ReceiveByMessages(&from) : receiver_.ReceiveFrom(&from);
      if (how % 3 == 0) {
        EXPECT_EQ(peeked, text);
      }
      if (text == "EAGAIN") break;
      const std::string number = text.substr(0, text.find('x'));
      by_source[SourceOf(from)].append(number).append("+").append(std::to_string(text.size())) +=
          ' ';
    }
    for (const auto& [source, texts] : by_source)
      told.append(source).append(": ").append(texts) += '\n';
    return told;
  }
  // The port gets another owner, who hears nothing of what was sent before.
  std::string HandOver() {
    const uint16_t port = receiver_.Port();
    for (UdpSocket& sender : senders_) sender.Send("old");
    receiver_.Close();
    std::string told = third_.Do('b', port);
    for (UdpSocket& sender : senders_) told += " " + Text(sender.Send("new"));
    for (int i = 0; i < 3; ++i) told += " " + third_.Do('r', port);
    told += third_.Do('c', port);
    Reopen();
    return told;
  }
  // A child has the sockets of both worlds, uses those of one, and is gone.
  void Fork() {
    const pid_t child = fork();
    if (child == 0) {
      for (UdpSocket& sender : senders_) sender.Send("child");
      _exit(0);
    }
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    for (UdpSocket& sender : senders_) sender.Send("parent");
  }
  void Reopen() {
    receiver_ = UdpSocket();
    Follow(receiver_);
    set_ = FileDescriptor(epoll_create1(0));
    epoll_event event{};
    event.events = EPOLLIN;
    EXPECT_EQ(epoll_ctl(set_.get(), EPOLL_CTL_ADD, receiver_.fd(), &event), 0);
    for (UdpSocket& sender : senders_) {
      sender = UdpSocket();
      Follow(sender);
      Introduce(sender);
      sender.Connect(receiver_.Port());
    }
  }
  void Meet() {
    if (plain_ || CurrentMode() == Mode::kNative || CurrentMode() == Mode::kRefused) return;
    UpgradeIfWanted(receiver_.fd());
    for (const UdpSocket& sender : senders_) {
      UpgradeIfWanted(sender.fd());
      met_ += Routes(sender.fd()) > 0 ? 1 : 0;
    }
  }
  int met() const { return met_; }
  // Since the last question: a socket was given the port of one before it. Whose a datagram is that
  // lies in the queue, nobody can tell.
  bool OnePortForTwo() { return std::exchange(one_port_for_two_, false); }

 private:
  void Follow(const UdpSocket& socket) const {
    if (plain_) FileDescriptor twin(dup(socket.fd()));
  }
  // Sources are told apart by the order in which they were made.
  void Introduce(const UdpSocket& socket) {
    std::string& name = sources_[socket.Port()];
    if (!name.empty()) one_port_for_two_ = true;
    name = "source " + std::to_string(made_++);
  }
  std::string SourceOf(const UdpAddress& from) const {
    const auto found = sources_.find(from.Port());
    return found == sources_.end() ? "third" : found->second;
  }
  std::string ReceiveByMessages(UdpAddress* from) const {
    char buffer[2000];
    iovec in{buffer, sizeof buffer};
    mmsghdr message{};
    message.msg_hdr.msg_iov = &in;
    message.msg_hdr.msg_iovlen = 1;
    message.msg_hdr.msg_name = from->get();
    message.msg_hdr.msg_namelen = from->length;
    if (recvmmsg(receiver_.fd(), &message, 1, MSG_DONTWAIT, nullptr) != 1)
      return strerrorname_np(errno);
    return std::string(buffer, message.msg_len);
  }
  static std::string SendSeveral(const UdpSocket& sender, const std::string& text) {
    iovec out[3];
    mmsghdr messages[3] = {};
    for (int i = 0; i < 3; ++i) {
      out[i] = {const_cast<char*>(text.data()), text.size() - static_cast<size_t>(i)};
      messages[i].msg_hdr.msg_iov = &out[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    return Text(Call(sendmmsg(sender.fd(), messages, 3, 0)));
  }
  const bool plain_;
  UdpSocket receiver_;
  UdpSocket senders_[2];
  FileDescriptor set_;
  const ThirdProgram& third_;
  std::map<uint16_t, std::string> sources_;
  int made_ = 0;
  int met_ = 0;
  bool one_port_for_two_ = false;
};

class DatagramThreeTest : public UdpFamilyTest {};
FOR_ALL_UDP_FAMILIES(DatagramThreeTest);

TEST_P(DatagramThreeTest, WhatEachSourceHasSentIsTheKernels) {
  // Before there are sockets that they would inherit.
  const ThirdProgram beside_world;
  const ThirdProgram beside_kernel;
  int met = 0;
  for (unsigned round = 0; round < 8; ++round) {
    std::mt19937 random(Seed() * 1000 + round);
    World world(false, beside_world);
    World kernel(true, beside_kernel);
    for (int burst = 0; burst < 12; ++burst) {
      world.Meet();
      const auto steps = static_cast<int>(random() % 16);
      for (int step = 0; step < steps; ++step) {
        // What changes sockets is seldom: else nothing is on a FIFO.
        const auto what = static_cast<unsigned>(random() % (step % 6 == 5 ? 10 : 7));
        const auto much = static_cast<unsigned>(random());
        const std::string text = std::to_string(burst * 100 + step) + std::string(much % 900, 'x');
        ASSERT_EQ(world.Do(what, much, text), kernel.Do(what, much, text))
            << "round " << round << ", burst " << burst << ", step " << step << ": " << what;
      }
      const auto how = static_cast<unsigned>(random());
      const std::string from_world = world.Drain(how);
      const std::string from_kernel = kernel.Drain(how);
      if (const bool also = kernel.OnePortForTwo(); !world.OnePortForTwo() && !also) {
        ASSERT_EQ(from_world, from_kernel) << "round " << round << ", burst " << burst;
      }
      world.Meet();
      if (burst % 5 == 2) {
        // Nothing is left of a sender that is gone: it would be lost (D-20).
        world.Fork();
        kernel.Fork();
        ASSERT_EQ(world.Drain(how), kernel.Drain(how)) << "round " << round << ", burst " << burst;
        world.Reopen();
        kernel.Reopen();
      }
      if (burst % 5 == 4) {
        ASSERT_EQ(world.HandOver(), kernel.HandOver()) << "round " << round << ", burst " << burst;
      }
    }
    met += world.met();
  }
  if (CurrentMode() == Mode::kLocal) {
    EXPECT_GT(met, 60);
  }
}

}  // namespace
}  // namespace conformance

// UDP sockets of a test: made, named and used in one line each. The tests that use them say what
// the kernel does with datagrams, whoever carries them.

#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>

#include "tests/conformance/check.h"
#include "tests/conformance/mode.h"

namespace conformance {

// On 127.0.0.1, at a port of the kernel's choice, or unbound.
class UdpSocket {
 public:
  explicit UdpSocket(bool bound = true) : fd_(socket(AF_INET, SOCK_DGRAM, 0)) {
    if (bound) Bind(0);
  }
  int fd() const { return fd_.get(); }
  int Bind(uint16_t port) {
    const sockaddr_in address = Loopback(port);
    return bind(fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  }
  sockaddr_in Name() const {
    sockaddr_in name{};
    socklen_t length = sizeof name;
    getsockname(fd(), reinterpret_cast<sockaddr*>(&name), &length);
    return name;
  }
  uint16_t Port() const { return ntohs(Name().sin_port); }
  Outcome Connect(uint16_t port) {
    const sockaddr_in address = Loopback(port);
    return Call(connect(fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address));
  }
  Outcome Disconnect() {
    sockaddr nobody{};
    nobody.sa_family = AF_UNSPEC;
    return Call(connect(fd(), &nobody, sizeof nobody));
  }
  // To the peer of a connected socket, or to a port.
  Outcome Send(const std::string& text) { return Call(send(fd(), text.data(), text.size(), 0)); }
  Outcome SendTo(uint16_t port, const std::string& text) {
    const sockaddr_in address = Loopback(port);
    return Call(sendto(fd(), text.data(), text.size(), 0,
                       reinterpret_cast<const sockaddr*>(&address), sizeof address));
  }
  // The next datagram; "EAGAIN" and the like if there is none. Never waits.
  std::string Receive(int flags = 0, size_t room = 65535, uint16_t* from = nullptr) {
    std::string text(room, '?');
    sockaddr_in source{};
    socklen_t length = sizeof source;
    const ssize_t n = recvfrom(fd(), text.data(), room, flags | MSG_DONTWAIT,
                               reinterpret_cast<sockaddr*>(&source), &length);
    if (n < 0) return strerrorname_np(errno);
    if (from != nullptr) *from = ntohs(source.sin_port);
    text.resize(std::min(room, static_cast<size_t>(n)));
    return text;
  }
  int Close() { return fd_.Close(); }
  void Take(FileDescriptor fd) { fd_ = std::move(fd); }

  static sockaddr_in Loopback(uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }

 private:
  FileDescriptor fd_;
};

// Connects the sender, and sends as many as make a pair hot.
inline void Heat(UdpSocket& sender, UdpSocket& receiver) {
  sender.Connect(receiver.Port());
  for (int i = 0; i < 80; ++i) {
    EXPECT_EQ(sender.Send("hot"), Done(3));
    EXPECT_EQ(receiver.Receive(), "hot");
  }
}
// In mode local the two are on a FIFO from here on.
inline void Meet(const UdpSocket& sender, const UdpSocket& receiver) {
  EXPECT_TRUE(UpgradeIfWanted(receiver.fd()));
  EXPECT_TRUE(UpgradeIfWanted(sender.fd()));
  if (CurrentMode() == Mode::kLocal) {
    EXPECT_EQ(Routes(sender.fd()), kSendsByFifo);
  }
}

}  // namespace conformance

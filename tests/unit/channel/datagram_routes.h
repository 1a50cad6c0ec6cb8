// Both ends of a pair with a kernel beneath them: what the tests of routes begin with.
#pragma once

#include <memory>

#include "gtest/gtest.h"
#include "tests/unit/channel/datagram_fixture.h"

namespace xenloop {

class DatagramRoutes : public ::testing::Test {
 public:
  struct Pair {
    PlainDatagrams memory;
    DatagramSender sender;
    int slot = -1;
  };

  DatagramRoutes() { receiver.queue.SetLimit(kDefaultBuffer); }

  Pair& Join() {
    pairs.push_back(std::make_unique<Pair>());
    Pair& pair = *pairs.back();
    pair.slot = receiver.queue.Attach(pair.memory.fifo);
    if (dry_at_join) receiver.queue.StartAtOnce(pair.slot);
    pair.sender.Begin(pair.memory.fifo);
    return pair;
  }
  // And the first record has been taken: the kernel has been read dry.
  Pair& JoinAndBegin() {
    Pair& pair = Join();
    SendBy(pair, "f1");
    EXPECT_EQ(Next(), "f1");
    return pair;
  }
  // As a program's send: by the route, or by the kernel if that is what comes out.
  void SendBy(Pair& pair, const std::string& text) {
    const iovec iov{const_cast<char*>(text.data()), text.size()};
    switch (pair.sender.Send(kernel, IovCursor(&iov, 1), ++clock)) {
      case Sending::kDone:
        return;
      case Sending::kRing:
        pair.sender.Rang(true);
        [[fallthrough]];
      case Sending::kByKernel:
        kernel.queue.push_back(text);
        return;
      case Sending::kWait:
        ++waits;
    }
  }
  std::string Next() { return ReceiveFrom(receiver, kernel); }
  // Everything that is there, in one line.
  std::string All() {
    std::string all;
    for (std::string next = Next(); next != "none"; next = Next()) all += next + " ";
    return all;
  }

  PlainKernel kernel;
  DatagramReceiver receiver;
  std::vector<std::unique_ptr<Pair>> pairs;
  uint64_t clock = 0;
  int waits = 0;
  bool dry_at_join = false;
};

}  // namespace xenloop

// A parked pair in plain memory: two FIFOs, a board, both ends in the first slot.
#pragma once

#include <memory>

#include "channel/parked_queue.h"
#include "tests/unit/channel/fifo_fixture.h"

namespace xenloop {

class PlainPair {
 public:
  PlainPair() : there_(4096), back_(4096), board_(new ParkedBoard{}) {
    client = ParkedEnd(Role::kClient, &word(), there_.fifo, back_.fifo);
    server[0] = ParkedEnd(Role::kServer, &word(), back_.fifo, there_.fifo);
  }
  SharedLifeWord& word() { return board_->words[0]; }
  ParkedBoard& board() { return *board_; }
  LifeWord Word() { return word().Load(); }
  void Write(LifeWord value) {
    LifeWord before = Word();
    while (!word().Change(before, value)) {
    }
  }
  bool Connect(uint64_t life) {
    if (!client.Claim(life) || !client.Queue(false)) return false;
    there_.known_consumer = 0;
    Hint(*board_, 0);
    return true;
  }
  LifeAccept Accept() {
    back_.known_consumer = 0;
    return AcceptFirst(*board_, server).result;
  }
  // A byte is sent and taken.
  void Ask() {
    there_.Put("?");
    there_.Take(1);
  }
  PlainFifo& there() { return there_; }
  PlainFifo& back() { return back_; }

  ParkedEnd client;
  ParkedEnd server[kMostParked];

 private:
  PlainFifo there_;
  PlainFifo back_;
  std::unique_ptr<ParkedBoard> board_;
};

}  // namespace xenloop

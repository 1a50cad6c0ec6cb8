// What a thread in poll or select sleeps on beside its descriptors, and one in a watched set beside
// that: an epoll descriptor that holds the doorbell, the common bell and one bell more,
// edge-triggered. Each sleeping thread has its own, so none can swallow another's wake-up. Lent
// from a small pool for the time of a sleep; a thread has the one again that it had last, if it
// can.
#pragma once

#include <cstdint>

#include "channel/base/abandon.h"

namespace xenloop {

struct SleeperBell;

class LentBell : public Abandonable {
 public:
  LentBell();
  ~LentBell();
  int fd() const;           // -1: none is left
  uint32_t number() const;  // of that one bell more; the common one if there is none
  void Swallow() const;

 private:
  static void GiveBack(Abandonable* scope);
  SleeperBell* bell_ = nullptr;
};

void PollForkedChild();  // the parent's descriptors are not ours to sleep on

}  // namespace xenloop

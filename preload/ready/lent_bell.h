// What a thread in poll or select sleeps on beside its descriptors, and one in a watched set beside
// that: an epoll descriptor that holds the doorbell and the common bell edge-triggered. Each
// sleeping thread has its own, so none can swallow another's wake-up. Lent from a small pool for
// the time of a sleep.
#pragma once

#include "channel/base/abandon.h"

namespace xenloop {

struct SleeperBell;

class LentBell : public Abandonable {
 public:
  LentBell();
  ~LentBell();
  int fd() const;  // -1: none is left
  void Swallow() const;

 private:
  static void GiveBack(Abandonable* scope);
  SleeperBell* bell_ = nullptr;
};

void PollForkedChild();  // the parent's descriptors are not ours to sleep on

}  // namespace xenloop

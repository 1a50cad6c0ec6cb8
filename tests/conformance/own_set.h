// A connected pair, and an epoll set that no child has, not even the peer.

#pragma once

#include <sys/epoll.h>

#include "tests/conformance/epoll_set.h"
#include "tests/conformance/pair.h"

namespace conformance {

class OwnSetTest : public PairTest {
 protected:
  static constexpr uint32_t kIn = EPOLLIN;
  static constexpr uint32_t kOut = EPOLLOUT;

  void SetUp() override {
    PairTest::SetUp();
    set_ = EpollSet();
  }
  EpollSet set_;
};

}  // namespace conformance

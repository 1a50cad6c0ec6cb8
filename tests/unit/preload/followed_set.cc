// See followed_set.h.
#include "tests/unit/preload/followed_set.h"

#include <sched.h>

#include <atomic>
#include <thread>

namespace xenloop {

uint64_t WokenByPeer(Set& set, FollowedSocket& socket) {
  std::atomic<int> tid{0};
  uint64_t told = 0;
  std::thread sleeper([&] {
    tid = gettid();
    told = set.Wait(5000).data.u64;
  });
  while (tid == 0) sched_yield();
  AwaitSleeper(tid);
  socket.PeerSends("x");
  sleeper.join();
  return told;
}

}  // namespace xenloop

// See agent_asks.h.
#include "preload/side/agent_asks.h"

#include "channel/base/time.h"
#include "preload/side/self.h"

namespace xenloop {

void AwaitAgent(int fd) {
  std::atomic_thread_fence(std::memory_order_seq_cst);  // pairs with AgentAsks
  const int about = fd + 1;
  if (agent_shared.asks_about.load(std::memory_order_seq_cst) != about) return;
  if (process_state.sandboxed || process_state.in_doubt ||
      agent_shared.tid.load(std::memory_order_relaxed) == CurrentTid())
    return;
  PatientLooks looks;
  while (agent_shared.asks_about.load(std::memory_order_acquire) == about) {
    if (looks.Again()) continue;
    // Perhaps nobody is there, in a child that was forked unseen: no second close waits for that.
    int asked = about;
    agent_shared.asks_about.compare_exchange_strong(asked, 0, std::memory_order_relaxed);
    return;
  }
}

}  // namespace xenloop

// The agent's own system calls on a descriptor of the program's. The kernel keeps an open file
// until the last call on it has returned: a socket that the program closes meanwhile would still
// have its port, take datagrams and be told of by epoll sets. So the agent says what it asks about,
// and a close waits for the answer.
#pragma once

#include <errno.h>

#include "preload/side/agent_shared.h"
#include "preload/side/fd_table.h"
#include "preload/side/shadow.h"

namespace xenloop {

// The agent's thread only, around such calls; may stand inside another.
class AgentAsks {
 public:
  // `by_agent`: another thread asks in the program's own call, and has nothing to say.
  explicit AgentAsks(int fd, bool by_agent = true)
      : fd_(fd),
        by_agent_(by_agent),
        outer_(by_agent ? agent_shared.asks_about.load(std::memory_order_relaxed) : 0) {
    if (by_agent) agent_shared.asks_about.store(fd + 1, std::memory_order_seq_cst);
  }
  ~AgentAsks() {
    if (by_agent_) agent_shared.asks_about.store(outer_, std::memory_order_release);
  }
  // False: the program has closed it, and the number may be another file's.
  bool May() const {
    // Pairs with AwaitAgent, which comes after the entry is gone: one sees the other.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return !FdTable::IsEmpty(fd_);
  }
  AgentAsks(const AgentAsks&) = delete;
  AgentAsks& operator=(const AgentAsks&) = delete;

 private:
  const int fd_;
  const bool by_agent_;
  const int outer_;
};

// -EBADF: the program has closed it.
inline int AskTcpInfo(int fd, tcp_info* info) {
  const AgentAsks asks(fd);
  return asks.May() ? TcpInfoOf(fd, info) : -EBADF;
}

// Before the kernel closes `fd`, which is not in the table any more. Any thread; not for ever.
void AwaitAgent(int fd);

}  // namespace xenloop

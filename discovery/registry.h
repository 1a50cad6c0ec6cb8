// The local directory of hints: which agent holds the connection {local, peer}? One file per user,
// a hash table of {hash of tuple, agent id}. A hint may be stale, overwritten or forged; whoever
// follows it verifies (see preload/agent/agent_talk.cc). Read and written with pread/pwrite,
// never mapped: a full, truncated or hostile file can give an error but no SIGBUS.
//
//   DIR/xenloop-UID/           owned by UID, not writable by others      DIR: /dev/shm, or the
//   realm's directory DIR/xenloop-UID/hints      16384 buckets of 4 entries of {uint64 hash, uint64
//   agent id} DIR/xenloop-UID/ID.sock    the agent's socket; in a realm only (otherwise an abstract
//   name, bound to one netns)
#pragma once

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include <cstddef>
#include <cstdint>

#include "discovery/protocol/reasons.h"

namespace xenloop {

class Registry {
 public:
  // Opens (making it if need be) this user's directory below `base`. 0, or -errno with *reason set.
  int Open(const char* base, uid_t uid, Reason* reason);
  void Close();
  bool is_open() const { return hints_fd_ >= 0; }
  // For an owner that keeps its descriptors at numbers of its own choice.
  int descriptor() const { return hints_fd_; }
  void MoveDescriptor(int fd) { hints_fd_ = fd; }

  int Publish(uint64_t hash, uint64_t agent_id);
  // The agents that user `uid` has published for the hash: ids into `out`; how many.
  size_t Lookup(uid_t uid, uint64_t hash, uint64_t* out, size_t capacity);

 private:
  char base_[96] = {};
  uid_t uid_ = 0;
  int hints_fd_ = -1;
};

// The address of an agent's socket. `realm_base` empty: abstract name "xenloop/UID/ID". Returns the
// length, 0 if the path is too long.
socklen_t AgentAddress(const char* realm_base, uid_t uid, uint64_t agent_id, sockaddr_un* address);

}  // namespace xenloop

// A TCP connection of which one end is followed as the library does it, with FIFOs, a doorbell and
// a peer in the test's own hands instead of an agent; and children that are forked.
#pragma once

#include <string>

#include "channel/transport.h"
#include "preload/side/side.h"

namespace xenloop {

// What a process has once its agent runs, without the thread: a doorbell of its own. For the life
// of the process.
void StartDoorbell();

class FollowedSocket {
 public:
  FollowedSocket();
  ~FollowedSocket();
  FollowedSocket(const FollowedSocket&) = delete;
  FollowedSocket& operator=(const FollowedSocket&) = delete;

  int fd() const { return fd_; }
  int peer_fd() const { return peer_; }
  Side* side() const { return side_; }

  // What the agent of this process does: both directions go over to FIFOs. False: a registration
  // cannot be converted.
  bool Attach();
  // Back to TCP, and the agent lets go.
  void Detach();
  // The peer publishes bytes in its FIFO and wakes whoever asked for it.
  void PeerSends(const std::string& text);
  void PeerSends(const std::string& text, const Doorbell& doorbell);
  // The same, and rings nothing but what the FIFO names.
  void PeerSendsByName(const std::string& text);
  void PeerSendsByTcp(const std::string& text);
  bool OnFifos() const;

 private:
  int fd_ = -1;
  int peer_ = -1;
  Side* side_ = nullptr;
  void PeerPublishes(const std::string& text);
  FifoMapping mine_;    // we are the producer
  FifoMapping theirs_;  // the peer is
  uint64_t peers_known_consumer_ = 0;
};

// Runs `work` in a forked child. The number of the first check there that failed, 0 if none did.
template <typename Work>
int InForkedChild(Work work);
int WaitForExit(int pid);

// A thread of this process is asleep in the kernel.
void AwaitSleep(int tid);
// A thread of this process is counted as one that sleeps with FIFOs in view, and is asleep.
void AwaitSleeper(int tid);
// A thread sleeps, or has asked to be woken, on the word of the side's incoming FIFO.
bool IsAsked(Side* side);
void AwaitSleeperOnFifo(int tid, Side* side);
// The kernel's own account of an epoll set says that it holds the descriptor.
bool SetHolds(int epfd, int fd);

}  // namespace xenloop

#include <unistd.h>

template <typename Work>
int xenloop::InForkedChild(Work work) {
  const int pid = fork();
  if (pid == 0) {
    alarm(20);
    _exit(work());
  }
  return WaitForExit(pid);
}

// The rival that service meshes use: two TCP sockets in BPF maps, and a program that puts what one
// sends straight into the other's queue (sockmap redirect). Knows the kernel's interface only.
#pragma once

#include "absl/status/statusor.h"

namespace xenloop::bench {

// Descriptors, inherited by the workers. Each map takes one socket; what that sends goes into the
// socket of the other map.
struct Sockmaps {
  int server_map = -1;
  int client_map = -1;
};

// Fails with the kernel's reason where it forbids this.
absl::StatusOr<Sockmaps> MakeSockmaps();
void CloseSockmaps(const Sockmaps& maps);

// A worker's part: puts its connected socket into its map and waits for the peer's, since what is
// sent before that would be dropped. Ends the process if it fails.
void JoinSockmap(int own_map, int peer_map, int fd);

}  // namespace xenloop::bench

// See keeper.h.
#include "discovery/daemon/rendezvous/keeper.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "discovery/protocol/descriptors.h"

namespace xenloop {

Keeper::~Keeper() {
  if (socket_ >= 0) close(socket_);
}

bool Keeper::Start() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return false;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDIN_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
  sigset_t all;
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &all);
  char name[sizeof kKeeperName];
  for (size_t i = 0; i < sizeof name; ++i) name[i] = kKeeperName[i];
  char* const arguments[] = {name, nullptr};
  char* const environment[] = {nullptr};
  pid_t process = 0;
  const int error = posix_spawn(&process, program_, &actions, &attributes, arguments, environment);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  socket_ = ends[0];
  return error == 0;
}

bool Keeper::Keep(int descriptor) {
  if (socket_ < 0 && !Start()) return false;
  char byte = 0;
  iovec one{&byte, 1};
  DescriptorRoom<1> room;
  msghdr message = {};
  message.msg_iov = &one;
  message.msg_iovlen = 1;
  room.Put(&descriptor, 1, &message);
  ssize_t sent = -1;
  do sent = sendmsg(socket_, &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent == 1;
}

void HoldDescriptors() {
  prctl(PR_SET_NAME, "xenloop-keeper");
  static_cast<void>(!chdir("/"));
  for (;;) {
    char byte = 0;
    iovec one{&byte, 1};
    DescriptorRoom<1> room;
    msghdr message = {};
    message.msg_iov = &one;
    message.msg_iovlen = 1;
    room.ForReceiving(&message);
    const ssize_t n = recvmsg(STDIN_FILENO, &message, MSG_CMSG_CLOEXEC);
    if (n > 0 || (n < 0 && errno == EINTR)) continue;
    pause();  // the daemon has ended; the descriptors have not
  }
}

}  // namespace xenloop

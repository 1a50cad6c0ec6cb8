// A program of one thread waits in recv, and a handler takes hundreds of datagrams from the same
// socket meanwhile, so that it gets hot while somebody waits at it. With "jump" the handler leaves
// the wait for good. All that was sent comes, in order.
//
//   lone_receiver return|jump
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

#include "tests/e2e/lone.h"

using namespace lone;

namespace {

void Send(int from) {
  sockaddr_in to;
  if (read(from, &to, sizeof to) != sizeof to) _exit(1);
  usleep(100000);
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) _exit(1);
  for (uint32_t i = 1; i <= kAll; ++i) {
    if (send(fd, &i, sizeof i, 0) < 0) _exit(1);
    usleep(i <= kInHandler ? 200 : 20);
    if (i == kInHandler) usleep(600000);
  }
  sleep(1);  // an end of the sender is another matter
}

}  // namespace

int main(int argc, char** argv) {
  jumps = argc > 1 && strcmp(argv[1], "jump") == 0;
  int tell[2];
  if (pipe(tell) != 0) return 1;
  if (fork() == 0) {
    Send(tell[0]);
    return 0;
  }
  receiver = socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in name{};
  socklen_t length = sizeof name;
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int room = 8 << 20;
  setsockopt(receiver, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
  if (bind(receiver, reinterpret_cast<sockaddr*>(&name), length) != 0 ||
      getsockname(receiver, reinterpret_cast<sockaddr*>(&name), &length) != 0 ||
      write(tell[1], &name, sizeof name) != sizeof name)
    return 1;
  struct sigaction action {};
  action.sa_handler = Handler;
  action.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &action, nullptr);
  const itimerval soon{{0, 0}, {0, 20000}};
  setitimer(ITIMER_REAL, &soon, nullptr);
  if (sigsetjmp(target, 1) != 0) jumps = false;
  while (next_number <= kAll) ReceiveNext();
  printf("all %u\n", next_number - 1);
  wait(nullptr);
  return 0;
}

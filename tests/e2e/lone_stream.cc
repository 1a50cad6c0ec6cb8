// A program of one thread waits in recv on a TCP connection, and a handler takes hundreds of
// messages from the same connection meanwhile, so that it gets hot while somebody waits at it. With
// "jump" the handler leaves the wait for good; with "step" it runs before the Nth instruction of
// the call, which is to be anywhere between the program and the kernel (0: says how many there
// are); with "handlers" all is taken in handlers. All that was sent comes, in order.
//
//   lone_stream return|jump|handlers|step N
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

#include "tests/e2e/lone.h"

using namespace lone;

namespace {

// Takes what is there.
void TakeAll(int /*signal*/) {
  uint32_t number = 0;
  while (recv(receiver, &number, sizeof number, MSG_DONTWAIT) == sizeof number) {
    if (number != next_number++) Fail("another number");
  }
}

// ---- one instruction after the other ----
long wanted_step;
volatile long steps;
volatile uint32_t first_number;

#ifdef __x86_64__
constexpr long kTrapFlag = 0x100;

void Step(int signal, siginfo_t* /*info*/, void* context) {
  if (++steps != wanted_step || first_number != 0) return;
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~kTrapFlag;
  Handler(signal);
}

void ReceiveNextStepping() {
  struct sigaction action {};
  action.sa_sigaction = Step;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigaction(SIGTRAP, &action, nullptr);
  __asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq" ::: "memory", "cc");
  const ssize_t received =
      recv(receiver, const_cast<uint32_t*>(&first_number), sizeof first_number, 0);
  __asm__ volatile("pushfq; andl $~0x100, (%%rsp); popfq" ::: "memory", "cc");
  if (received != sizeof first_number || first_number != next_number++)
    Fail("another number after steps");
}
#else
void ReceiveNextStepping() {}
#endif

void Send(const sockaddr_in& to) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) _exit(1);
  usleep(100000);
  for (uint32_t i = 1; i <= kAll; ++i) {
    if (send(fd, &i, sizeof i, 0) != sizeof i) _exit(1);
    usleep(i <= kInHandler ? 200 : 20);
    if (i == kInHandler) usleep(600000);
  }
  char end;
  if (recv(fd, &end, 1, 0) != 0) _exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  jumps = argc > 1 && strcmp(argv[1], "jump") == 0;
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in name{};
  socklen_t length = sizeof name;
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(listener, reinterpret_cast<sockaddr*>(&name), length) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&name), &length) != 0 ||
      listen(listener, 1) != 0)
    return 1;
  if (fork() == 0) {
    close(listener);
    Send(name);
    return 0;
  }
  receiver = accept(listener, nullptr, nullptr);
  const bool in_handlers = argc > 1 && strcmp(argv[1], "handlers") == 0;
  if (argc > 2) {
    wanted_step = atol(argv[2]);
    ReceiveNextStepping();
    if (wanted_step == 0) printf("%ld\n", steps);
  } else {
    struct sigaction action {};
    action.sa_handler = in_handlers ? TakeAll : Handler;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, nullptr);
    const itimerval soon{{0, in_handlers ? 1000 : 0}, {0, 20000}};
    setitimer(ITIMER_REAL, &soon, nullptr);
  }
  if (sigsetjmp(target, 1) != 0) jumps = false;
  pollfd others{listener, POLLIN, 0};
  while (in_handlers && next_number <= kAll) poll(&others, 1, 1000);
  while (next_number <= kAll) ReceiveNext();
  if (argc < 3 || wanted_step != 0) printf("all %u\n", next_number - 1);
  close(receiver);
  int status = 0;
  wait(&status);
  return status == 0 ? 0 : 1;
}

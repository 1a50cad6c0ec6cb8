// An echo server whose event loop makes its system calls in line, as Rust's rustix does; it reads
// and writes by libc.
//
//   unseen-server PORT CONNECTIONS    one after the other
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/conformance/inline_call.h"
#include "tests/e2e/loopback.h"

using conformance::InlineCall;

namespace {

void Serve(int fd) {
  if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0) Die("fcntl");
  const long set = InlineCall(SYS_epoll_create1, 0, 0, 0);
  epoll_event event{};
  event.events = EPOLLIN;
  if (InlineCall(SYS_epoll_ctl, set, EPOLL_CTL_ADD, fd, &event) != 0) Die("epoll_ctl");
  for (;;) {
    char buffer[4096];
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n == 0) break;
    if (n > 0 && write(fd, buffer, static_cast<size_t>(n)) != n) Die("write");
    if (n < 0 && errno != EAGAIN) Die("read");
    if (n < 0) InlineCall(SYS_epoll_pwait, set, &event, 1, -1, 0, 8);
  }
  close(static_cast<int>(set));
  close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const sockaddr_in address = Loopback(atoi(argv[1]));
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener, 8) != 0)
    Die("listen");
  for (int i = atoi(argv[2]); i > 0; --i) Serve(accept(listener, nullptr, nullptr));
  return 0;
}

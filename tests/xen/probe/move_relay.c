// Carries a guest's memory from one host of the lab to the other, where xl would have ssh.
//   move_relay connect ADDRESS PORT     standard input goes there, what comes is standard output
//   move_relay serve PORT COMMAND...    each connection is a command's standard input and output
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int WriteAll(int fd, const char* from, ssize_t length) {
  while (length > 0) {
    const ssize_t n = write(fd, from, (size_t)length);
    if (n <= 0) return -1;
    from += n;
    length -= n;
  }
  return 0;
}

static int Relay(int there) {
  static char buffer[256 * 1024];
  struct pollfd waits[2] = {{.fd = 0, .events = POLLIN}, {.fd = there, .events = POLLIN}};
  for (;;) {
    if (poll(waits, 2, -1) < 0) return 1;
    if (waits[0].fd >= 0 && waits[0].revents != 0) {
      const ssize_t n = read(0, buffer, sizeof buffer);
      if (n > 0 && WriteAll(there, buffer, n) != 0) return 1;
      if (n <= 0) {
        shutdown(there, SHUT_WR);
        waits[0].fd = -1;
      }
    }
    if (waits[1].revents != 0) {
      const ssize_t n = read(there, buffer, sizeof buffer);
      if (n <= 0) return n < 0;
      if (WriteAll(1, buffer, n) != 0) return 1;
    }
  }
}

int main(int argc, char** argv) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int connecting = argc == 4 && strcmp(argv[1], "connect") == 0;
  if (!connecting && (argc < 4 || strcmp(argv[1], "serve") != 0)) return 2;
  struct sockaddr_in address = {.sin_family = AF_INET};
  address.sin_port = htons((unsigned short)atoi(argv[connecting ? 3 : 2]));
  if (connecting) {
    signal(SIGPIPE, SIG_IGN);
    if (inet_pton(AF_INET, argv[2], &address.sin_addr) != 1) return 2;
    if (connect(fd, (const struct sockaddr*)&address, sizeof address) != 0) {
      perror(argv[2]);
      return 1;
    }
    return Relay(fd);
  }
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (const struct sockaddr*)&address, sizeof address) != 0 || listen(fd, 4) != 0) {
    perror("move_relay");
    return 1;
  }
  signal(SIGCHLD, SIG_IGN);
  for (;;) {
    const int connection = accept(fd, NULL, NULL);
    if (connection < 0) return 1;
    if (fork() == 0) {
      signal(SIGCHLD, SIG_DFL);
      dup2(connection, 0);
      dup2(connection, 1);
      close(connection);
      execvp(argv[3], argv + 3);
      _exit(127);
    }
    close(connection);
  }
}

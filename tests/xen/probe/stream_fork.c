// A connection between two guests, used across fork and exec. One end answers ("serve PORT"); the
// other ("fork ADDRESS PORT", "exec ADDRESS PORT") exchanges numbered messages until the library
// has had time to take the connection over, forks (or execs itself), and goes on in the child, then
// in the parent. Every message is checked at both ends.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kWarm = 200, kMore = 20, kSize = 1000 };

static void Die(const char* what) {
  perror(what);
  exit(1);
}

static void All(int fd, void* buffer, size_t length, int out) {
  for (size_t done = 0; done < length;) {
    char* at = (char*)buffer + done;
    const ssize_t n =
        out ? send(fd, at, length - done, MSG_NOSIGNAL) : recv(fd, at, length - done, 0);
    if (n <= 0) Die(out ? "send" : "recv");
    done += (size_t)n;
  }
}

static void Exchange(int fd, unsigned from, unsigned count) {
  unsigned char message[kSize], answer[kSize];
  for (unsigned i = from; i < from + count; ++i) {
    memset(message, (int)(i % 251), sizeof message);
    memcpy(message, &i, sizeof i);
    All(fd, message, sizeof message, 1);
    All(fd, answer, sizeof answer, 0);
    if (memcmp(message, answer, sizeof message) != 0) {
      fprintf(stderr, "wrong bytes in message %u\n", i);
      exit(1);
    }
  }
}

static int Serve(int port) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  if (bind(listener, (struct sockaddr*)&address, sizeof address) != 0 || listen(listener, 5) != 0)
    Die("listen");
  const int fd = accept(listener, NULL, NULL);
  unsigned char message[kSize];
  unsigned expected = 0;
  for (;; ++expected) {
    if (recv(fd, message, 1, MSG_PEEK) == 0) break;
    All(fd, message, sizeof message, 0);
    unsigned number;
    memcpy(&number, message, sizeof number);
    if (number != expected) {
      fprintf(stderr, "message %u came, %u was due\n", number, expected);
      return 1;
    }
    All(fd, message, sizeof message, 1);
  }
  printf("served %u\n", expected);
  return 0;
}

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "serve") == 0) return Serve(atoi(argv[2]));
  if (argc == 3 && strcmp(argv[1], "go-on") == 0) {  // after exec
    Exchange(atoi(argv[2]), kWarm, kMore);
    puts("well");
    return 0;
  }
  if (argc != 4) return 2;
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[3]))};
  inet_pton(AF_INET, argv[2], &address.sin_addr);
  if (connect(fd, (struct sockaddr*)&address, sizeof address) != 0) Die("connect");
  Exchange(fd, 0, kWarm);
  if (strcmp(argv[1], "exec") == 0) {
    char number[16];
    snprintf(number, sizeof number, "%d", fd);
    execl("/proc/self/exe", argv[0], "go-on", number, (char*)NULL);
    Die("exec");
  }
  const pid_t child = fork();
  if (child == 0) {
    Exchange(fd, kWarm, kMore);
    _exit(0);
  }
  int status = 1;
  if (waitpid(child, &status, 0) != child || status != 0) {
    fprintf(stderr, "the child ended with %x\n", (unsigned)status);
    return 1;
  }
  Exchange(fd, kWarm + kMore, kMore);
  puts("well");
  return 0;
}

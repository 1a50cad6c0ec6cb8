// The other side of lab_shell.c, on the host: runs a script in a domain.
//   lab_call PORT TOKEN_FILE SECONDS SCRIPT [INPUT_FILE]
// Prints what the script prints, as it comes, and ends with its exit status; 125 if the domain
// cannot be reached or does not answer in time.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { kUnreachable = 125, kLongestTrailer = 24 };

int main(int argc, char** argv) {
  if (argc < 5) return 2;
  char token[100] = "";
  FILE* file = fopen(argv[2], "r");
  if (!file || fscanf(file, "%99s", token) != 1) return 2;
  fclose(file);
  const int seconds = atoi(argv[3]);
  const int input = argc > 5 ? open(argv[5], O_RDONLY) : -1;
  struct stat about = {0};
  if (argc > 5 && (input < 0 || fstat(input, &about) != 0)) {
    perror(argv[5]);
    return 2;
  }
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_port = htons((unsigned short)atoi(argv[1])),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (connect(fd, (const struct sockaddr*)&address, sizeof address) != 0) return kUnreachable;
  dprintf(fd, "%s %d %zu %lld\n%s", token, seconds, strlen(argv[4]), (long long)about.st_size,
          argv[4]);
  for (off_t done = 0; done < about.st_size;) {
    if (sendfile(fd, input, &done, (size_t)(about.st_size - done)) <= 0) return kUnreachable;
  }
  // The last bytes may be the trailer: they are held back until the end.
  static char buffer[65536];
  size_t held = 0;
  const time_t deadline = time(NULL) + seconds + 10;
  for (;;) {
    const time_t left = deadline - time(NULL);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (left <= 0 || poll(&wait, 1, (int)left * 1000) != 1) return kUnreachable;
    const ssize_t n = read(fd, buffer + held, sizeof buffer - 1 - held);
    if (n <= 0) break;
    held += (size_t)n;
    if (held > kLongestTrailer) {
      fwrite(buffer, 1, held - kLongestTrailer, stdout);
      fflush(stdout);
      memmove(buffer, buffer + held - kLongestTrailer, kLongestTrailer);
      held = kLongestTrailer;
    }
  }
  buffer[held] = 0;
  int status = kUnreachable;
  char* trailer = strstr(buffer, "\nLAB-EXIT ");
  if (trailer && sscanf(trailer, "\nLAB-EXIT %d", &status) == 1) *trailer = 0;
  fputs(buffer, stdout);
  return fflush(stdout) == 0 ? status : kUnreachable;
}

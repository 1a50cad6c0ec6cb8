// Run with early_io.so and libxenloop.so preloaded: the former has done its I/O, and I/O goes on
// working.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct EarlyRuns {
  int from_malloc, from_constructor, from_dlsym;
};

int main(int argc, char** argv) {
  const struct EarlyRuns* const runs = dlsym(RTLD_DEFAULT, "early_runs");
  Dl_info origin;
  if (runs == NULL || dladdr(dlsym(RTLD_DEFAULT, "recv"), &origin) == 0 ||
      strstr(origin.dli_fname, "libxenloop") == NULL) {
    fprintf(stderr, "both libraries should be preloaded\n");
    return 1;
  }
  free(malloc(10));
  int pair[2];
  char bytes[4];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0 || send(pair[0], "main", 4, 0) != 4 ||
      recv(pair[1], bytes, 4, 0) != 4 || memcmp(bytes, "main", 4) != 0) {
    fprintf(stderr, "I/O in main fails\n");
    return 1;
  }
  printf("early I/O: %d times in malloc, %d in a constructor, %d in dlsym\n", runs->from_malloc,
         runs->from_constructor, runs->from_dlsym);
  return runs->from_malloc == 0 || runs->from_constructor == 0 || runs->from_dlsym == 0;
}

/* Stands in for libxenloop.so in the tests of the tools: at the end of each process that asks for
   it (FAKE_REPORT in the environment) appends that text to the XENLOOP_STATS file. */

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((destructor)) static void Report(void) {
  const char* file = getenv("XENLOOP_STATS");
  const char* line = getenv("FAKE_REPORT");
  if (file == NULL || line == NULL) return;
  const int fd = open(file, O_WRONLY | O_APPEND | O_CLOEXEC);
  if (fd < 0) return;
  if (write(fd, line, strlen(line)) < 0 || write(fd, "\n", 1) < 0) abort();
  close(fd);
}

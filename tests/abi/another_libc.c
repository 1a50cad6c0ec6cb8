// A program of another libc: what the library interposes must work there as without it.
#define _GNU_SOURCE
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static jmp_buf back;
static sigjmp_buf back_with_mask;
static void* echo(void* argument) {
  int listener = *(int*)argument;
  int fd = accept(listener, 0, 0);
  char buffer[64];
  ssize_t n;
  while ((n = recv(fd, buffer, sizeof buffer, 0)) > 0) send(fd, buffer, n, 0);
  close(fd);
  return 0;
}
static void* sleeper(void* argument) {
  for (;;) poll(0, 0, 1000);
  return argument;
}

int main(void) {
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof name;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr*)&name, sizeof name) || listen(listener, 1) ||
      getsockname(listener, (struct sockaddr*)&name, &length))
    return 2;
  pthread_t thread;
  if (pthread_create(&thread, 0, echo, &listener)) return 3;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr*)&name, sizeof name)) return 4;
  int set = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN};
  if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event)) return 5;
  for (int i = 0; i < 200; ++i) {
    char buffer[64];
    if (write(fd, "hello", 5) != 5 || epoll_wait(set, &event, 1, 5000) != 1 ||
        read(fd, buffer, sizeof buffer) != 5)
      return 6;
  }
  dprintf(fd, "%d", 42);
  char answer[8] = "";
  if (recv(fd, answer, 2, MSG_WAITALL) != 2 || strcmp(answer, "42")) return 7;
  if (setjmp(back) == 0) longjmp(back, 1);
  if (sigsetjmp(back_with_mask, 1) == 0) siglongjmp(back_with_mask, 1);
  pid_t child = fork();
  if (child == 0) {
    close(fd);
    execl("/bin/true", "true", (char*)0);
    _exit(9);
  }
  int status;
  if (waitpid(child, &status, 0) != child || status != 0) return 8;
  if (system("exit 3") != 3 << 8) return 10;
  FILE* pipe = popen("echo hi", "r");
  char line[8];
  if (!pipe || !fgets(line, sizeof line, pipe) || pclose(pipe)) return 11;
  pthread_t other;
  if (pthread_create(&other, 0, sleeper, 0) || pthread_cancel(other) || pthread_join(other, 0))
    return 12;
  FILE* stream = fdopen(fd, "r+");
  fprintf(stream, "bye");
  fclose(stream);
  if (pthread_join(thread, 0)) return 13;
  puts("every call worked");
  return 0;
}

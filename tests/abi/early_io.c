// A second preloaded library, as allocators, tracers and the like are: it does I/O before main,
// from its malloc, its constructor, and from within dlsym, which libxenloop.so calls to find the
// real functions. Nothing may be lost, loop or crash, whichever of the two is first in LD_PRELOAD.
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

struct EarlyRuns {
  int from_malloc, from_constructor, from_dlsym;
};
EXPORT struct EarlyRuns early_runs;

static void Require(bool condition, const char* what) {
  if (condition) return;
  if (write(2, what, strlen(what)) < 0) _exit(67);
  _exit(66);
}

static __thread bool inside;

static void DoIo(int* runs) {
  if (inside) return;
  inside = true;
  char bytes[8] = "";
  int pair[2];
  struct iovec iov = {bytes, 4};
  struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

  const int file = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  Require(read(file, bytes, 4) == 4, "early read\n");
  Require(close(file) == 0, "early close\n");
  Require(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "early socketpair\n");
  Require(write(pair[0], "abcd", 4) == 4, "early write\n");
  struct pollfd ready = {.fd = pair[1], .events = POLLIN};
  Require(poll(&ready, 1, 0) == 1 && ready.revents == POLLIN, "early poll\n");
  Require(recv(pair[1], bytes, 4, 0) == 4 && bytes[3] == 'd', "early recv\n");
  Require(sendmsg(pair[0], &message, 0) == 4, "early sendmsg\n");
  Require(readv(pair[1], &iov, 1) == 4 && bytes[0] == 'a', "early readv\n");
  Require(fcntl(pair[1], F_SETFL, O_NONBLOCK) == 0, "early fcntl\n");
  Require(read(pair[1], bytes, 4) == -1, "early non-blocking read\n");
  const int copy = dup(pair[0]);
  Require(copy >= 0 && close(pair[0]) == 0 && close(pair[1]) == 0, "early dup\n");
  Require(dup2(copy, pair[0]) == pair[0] && close(copy) == 0, "early dup2\n");
  Require(close(pair[0]) == 0, "early last close\n");
  const int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  Require(tcp >= 0 && close(tcp) == 0, "early socket\n");
  ++*runs;
  inside = false;
}

__attribute__((constructor)) static void Start(void) { DoIo(&early_runs.from_constructor); }

// Memory that is never given back; in front of each block stands its size.
static _Alignas(16) char heap[64 << 20];
static size_t used;

EXPORT void* malloc(size_t size) {
  DoIo(&early_runs.from_malloc);
  const size_t taken = (size + 31) & ~(size_t)15;
  char* const block = heap + __atomic_fetch_add(&used, taken, __ATOMIC_RELAXED);
  if (block + taken > heap + sizeof heap) return NULL;
  *(size_t*)(void*)block = size;
  return block + 16;
}

EXPORT void free(void* block) {}

EXPORT void* calloc(size_t count, size_t size) { return malloc(count * size); }

EXPORT void* realloc(void* block, size_t size) {
  char* const larger = malloc(size);
  if (block == NULL || larger == NULL) return larger;
  const size_t old_size = *(size_t*)(void*)((char*)block - 16);
  const char* const from = block;
  for (size_t i = 0; i < old_size && i < size; ++i) larger[i] = from[i];
  return larger;
}

// The real one must see its caller's return address, for RTLD_NEXT: the last call has to be a jump,
// hence -O2.
EXPORT void* dlsym(void* restrict handle, const char* restrict name) {
  static void* (*real_dlsym)(void*, const char*);
  if (real_dlsym == NULL) {
    void* (*found)(void*, const char*);
    *(void**)(void*)&found = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
    real_dlsym = found;
  }
  DoIo(&early_runs.from_dlsym);
  return real_dlsym(handle, name);
}

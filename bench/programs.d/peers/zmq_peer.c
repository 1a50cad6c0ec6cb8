// ZeroMQ's two commonest pairs: zmq_peer request|push[-server] URL [SECONDS].
// request: round trips of 64 B a second. push: messages of 64 B a second, counted when all of them
// have arrived: the last one is empty, and is answered.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

enum { kSize = 64, kBatch = 1000 };

static char buffer[kSize];

static double Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

// exit() and not a signal's death: the statistics of a preloaded library are written there.
static void Leave(int number) {
  (void)number;
  exit(0);
}

static void* Open(void* context, int type, const char* url, int server) {
  void* socket = zmq_socket(context, type);
  const int status = server ? zmq_bind(socket, url) : zmq_connect(socket, url);
  if (status != 0) {
    fprintf(stderr, "%s: %s\n", url, zmq_strerror(zmq_errno()));
    exit(1);
  }
  return socket;
}

static void ServeRequests(void* socket) {
  for (;;) {
    const int length = zmq_recv(socket, buffer, sizeof buffer, 0);
    if (length < 0) return;
    zmq_send(socket, buffer, (size_t)length, 0);
  }
}

static double Request(void* socket, double seconds) {
  const double start = Now();
  long count = 0;
  double now = start;
  for (; now - start < seconds; now = Now(), ++count) {
    zmq_send(socket, buffer, kSize, 0);
    zmq_recv(socket, buffer, kSize, 0);
  }
  return (double)count / (now - start);
}

static void ServePush(void* socket) {
  for (;;) {
    const int length = zmq_recv(socket, buffer, sizeof buffer, 0);
    if (length < 0) return;
    if (length == 0) zmq_send(socket, "", 0, 0);
  }
}

static double Push(void* socket, double seconds) {
  const double start = Now();
  long count = 0;
  while (Now() - start < seconds) {
    for (int i = 0; i < kBatch; ++i) zmq_send(socket, buffer, kSize, 0);
    count += kBatch;
  }
  zmq_send(socket, "", 0, 0);
  zmq_recv(socket, buffer, sizeof buffer, 0);
  return (double)count / (Now() - start);
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  signal(SIGTERM, Leave);
  const int server = strstr(argv[1], "-server") != NULL;
  const int request = strncmp(argv[1], "request", 7) == 0;
  void* context = zmq_ctx_new();
  // A PAIR for push, so that the answer can come back.
  const int type = request ? (server ? ZMQ_REP : ZMQ_REQ) : ZMQ_PAIR;
  void* socket = Open(context, type, argv[2], server);
  if (server) {
    if (request) {
      ServeRequests(socket);
    } else {
      ServePush(socket);
    }
    return 0;
  }
  const double seconds = argc > 3 ? atof(argv[3]) : 1;
  printf("figure %.1f\n", request ? Request(socket, seconds) : Push(socket, seconds));
  zmq_close(socket);
  zmq_ctx_term(context);
  return 0;
}

// Are grants and event channels between two guests what we take them for? One end grants a page,
// the other maps it; a counter goes back and forth, each step announced by an event.
//   grant_probe owner PEER_DOMID      prints "REF PORT" and serves
//   grant_probe mapper PEER_DOMID REF PORT
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <xenevtchn.h>
#include <xengnttab.h>

enum { kRounds = 100 };

static int Failed(const char* what) {
  perror(what);
  return 1;
}

static double Now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static int WaitFor(xenevtchn_handle* events, volatile uint32_t* word, uint32_t value) {
  while (*word != value) {
    struct pollfd wait = {.fd = xenevtchn_fd(events), .events = POLLIN};
    if (poll(&wait, 1, 10000) != 1) return -1;
    const int port = xenevtchn_pending(events);
    if (port >= 0) xenevtchn_unmask(events, (evtchn_port_t)port);
  }
  return 0;
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const uint32_t peer = (uint32_t)atoi(argv[2]);
  xenevtchn_handle* events = xenevtchn_open(NULL, 0);
  if (!events) return Failed("/dev/xen/evtchn");
  if (strcmp(argv[1], "owner") == 0) {
    xengntshr_handle* shares = xengntshr_open(NULL, 0);
    if (!shares) return Failed("/dev/xen/gntalloc");
    uint32_t reference;
    volatile uint32_t* page = xengntshr_share_pages(shares, peer, 1, &reference, 1);
    if (!page) return Failed("share");
    page[0] = page[1] = 0;
    const int port = xenevtchn_bind_unbound_port(events, peer);
    if (port < 0) return Failed("bind");
    printf("%u %d\n", reference, port);
    fflush(stdout);
    for (uint32_t i = 1; i <= kRounds; ++i) {
      if (WaitFor(events, &page[0], i) != 0) return Failed("no event from the mapper");
      page[1] = i;
      xenevtchn_notify(events, (evtchn_port_t)port);
    }
    return 0;
  }
  if (argc < 5) return 2;
  xengnttab_handle* grants = xengnttab_open(NULL, 0);
  if (!grants) return Failed("/dev/xen/gntdev");
  volatile uint32_t* page =
      xengnttab_map_grant_ref(grants, peer, (uint32_t)atoi(argv[3]), PROT_READ | PROT_WRITE);
  if (!page) return Failed("map");
  const int port = xenevtchn_bind_interdomain(events, peer, (evtchn_port_t)atoi(argv[4]));
  if (port < 0) return Failed("bind");
  const double start = Now();
  for (uint32_t i = 1; i <= kRounds; ++i) {
    page[0] = i;
    xenevtchn_notify(events, (evtchn_port_t)port);
    if (WaitFor(events, &page[1], i) != 0) return Failed("no event from the owner");
  }
  printf("%d round trips by event, %.0f us each\n", kRounds, (Now() - start) * 1e6 / kRounds);
  return 0;
}

// Looks at the table of peers as a program under libxenloop does, and waits for a change there;
// `xenloopd --peers` would need longer to start than the change to come.
//   peer_probe ADDRESS DOMID SECONDS   until the address means that domain
//   peer_probe ADDRESS none SECONDS    until it means nobody
// Prints the time of day at which it was so; 1 if it was not in time.
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "discovery/peer_table.h"

namespace {

double Now() {
  timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  uint8_t address[16];
  char text[64];
  snprintf(text, sizeof text, "%s%s", strchr(argv[1], ':') ? "" : "::ffff:", argv[1]);
  if (inet_pton(AF_INET6, text, address) != 1) return 2;
  const bool none = strcmp(argv[2], "none") == 0;
  const uint32_t wanted = static_cast<uint32_t>(atoi(argv[2]));
  const double end = Now() + atof(argv[3]);
  xenloop::PeerTable table;
  for (;;) {
    if (!table.is_open()) table.Open();
    xenloop::Peer peer;
    const bool found = table.Find(address, &peer);
    if (none ? !found : found && peer.domid == wanted) break;
    if (Now() > end) return 1;
    usleep(5000);
  }
  printf("%.3f\n", Now());
  return 0;
}

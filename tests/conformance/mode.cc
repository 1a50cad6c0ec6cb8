// Reads the mode, and drives the marked points through the test-only socket option. The counters
// live in memory shared with the forked peers, so that a run can say how often routes changed.

#include "tests/conformance/mode.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

namespace conformance {
namespace {

constexpr int kRouteOption = 0x786C;
constexpr int kFallBackNow = 1;
constexpr int kUpgradeNow = 2;

SwitchCounts* counts = nullptr;

// By descriptor: an upgrade has timed out. It may be impossible in the state of that connection
// (half closed, inherited, ...), and then must not cost its time-out at every marked point.
constexpr int kRememberedFds = 1024;
std::atomic<bool> timed_out[kRememberedFds];

Mode ReadMode() {
  const char* name = getenv("XENLOOP_CONFORMANCE_MODE");
  if (name == nullptr || strcmp(name, "native") == 0) return Mode::kNative;
  if (strcmp(name, "local") == 0) return Mode::kLocal;
  if (strcmp(name, "refused") == 0) return Mode::kRefused;
  if (strcmp(name, "switching") == 0) return Mode::kSwitching;
  if (strcmp(name, "parked") == 0) return Mode::kParked;
  fprintf(stderr, "XENLOOP_CONFORMANCE_MODE=%s: not native, local, refused, switching or parked\n",
          name);
  exit(2);
}

int RequestRoute(int fd, int request) {
  return setsockopt(fd, SOL_SOCKET, kRouteOption, &request, sizeof(request));
}

// Counts the outcome; true if the upgrade succeeded.
bool RequestUpgrade(int fd) {
  if (RequestRoute(fd, kUpgradeNow) == 0) {
    counts->upgrades++;
    return true;
  }
  if (errno == ENOPROTOOPT) counts->library_missing++;
  if (errno == ETIMEDOUT) {
    counts->upgrades_timed_out++;
    if (fd < kRememberedFds) timed_out[fd].store(true);
  } else {
    counts->upgrades_declined++;
  }
  return false;
}

}  // namespace

Mode CurrentMode() {
  static const Mode mode = ReadMode();
  return mode;
}

const char* ModeName() {
  static constexpr const char* kNames[] = {"native", "local", "refused", "switching", "parked"};
  return kNames[static_cast<int>(CurrentMode())];
}

int Routes(int fd) {
  int routes = 0;
  socklen_t length = sizeof(routes);
  if (getsockopt(fd, SOL_SOCKET, kRouteOption, &routes, &length) != 0) return -1;
  return routes;
}

bool UpgradeIfWanted(int fd) {
  if (fd >= 0 && fd < kRememberedFds) timed_out[fd].store(false);
  switch (CurrentMode()) {
    case Mode::kNative:
    case Mode::kRefused:
      return true;
    case Mode::kLocal:
    case Mode::kParked:
      return RequestUpgrade(fd);
    case Mode::kSwitching:
      return RequestUpgrade(fd) || errno != ENOPROTOOPT;
  }
  return false;
}

void MarkedPoint(int fd) {
  if (CurrentMode() != Mode::kSwitching) return;
  const int saved_errno = errno;
  const int routes = Routes(fd);
  if (routes > 0) {
    if (RequestRoute(fd, kFallBackNow) == 0) counts->fallbacks++;
  } else if (routes == 0) {
    if (fd >= kRememberedFds || !timed_out[fd].load()) RequestUpgrade(fd);
  } else if (errno == ENOPROTOOPT) {
    counts->library_missing++;
  }
  errno = saved_errno;
}

SwitchStorm::SwitchStorm(int fd) {
  if (CurrentMode() != Mode::kSwitching) return;
  thread_ = std::thread([this, fd] {
    while (!stop_.load()) {
      MarkedPoint(fd);
      const timespec pause{0, 300 * 1000};
      nanosleep(&pause, nullptr);
    }
  });
}

SwitchStorm::~SwitchStorm() {
  stop_.store(true);
  if (thread_.joinable()) thread_.join();
}

void PrepareSwitchCounts() {
  void* memory = mmap(nullptr, sizeof(SwitchCounts), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) abort();
  counts = new (memory) SwitchCounts{};
}

const SwitchCounts& CountedSwitches() { return *counts; }

unsigned Seed() {
  const char* seed = getenv("XENLOOP_CONFORMANCE_SEED");
  return seed == nullptr ? 1 : static_cast<unsigned>(strtoul(seed, nullptr, 10));
}

}  // namespace conformance

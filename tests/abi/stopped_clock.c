// A library like libfaketime: every clock stands still. Loaded before or behind ours.
#include <sys/time.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

enum { kNow = 1700000000, kSinceStart = 5000 };

EXPORT int clock_gettime(clockid_t clock, struct timespec* now) {
  now->tv_sec = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE ? kNow : kSinceStart;
  now->tv_nsec = 0;
  return 0;
}

EXPORT int gettimeofday(struct timeval* restrict now, void* restrict zone) {
  (void)zone;
  now->tv_sec = kNow;
  now->tv_usec = 0;
  return 0;
}

EXPORT time_t time(time_t* now) {
  if (now != NULL) *now = kNow;
  return kNow;
}

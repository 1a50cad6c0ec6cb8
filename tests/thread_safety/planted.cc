// What `run` must find, one violation at a time: PLANTED is its number, 0 none.
#include "preload/ready/epoll_registrations.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/side/side.h"

namespace xenloop {

uint64_t Sound(int fd, Side* side) {
  SocketShadow shadow(fd, side);
  const LockScope send(side->send.lock, CurrentTid());
  const LockScope receive(side->receive.lock, CurrentTid());
  side->receive.EndFifo(shadow);
  return side->send.window + side->receive.FifoBytes();
}

#if PLANTED == 1  // a guarded field without its lock
uint64_t Planted(Side* side) { return side->send.window; }
#endif

#if PLANTED == 2  // the other direction's lock
void Planted(int fd, Side* side) {
  SocketShadow shadow(fd, side);
  const LockScope scope(side->send.lock, CurrentTid());
  side->receive.EndFifo(shadow);
}
#endif

#if PLANTED == 3  // structure changed under a set's lock alone
void Planted(EpollSet* set, Registration* registration) {
  const LockScope scope(set->lock, CurrentTid());
  UnlinkConverted(set, registration);
}
#endif

#if PLANTED == 4  // a lock that one way out does not give back
bool Planted(Side* side) {
  side->send.lock.Acquire(CurrentTid());
  if (side->attached.load() == 0) return false;
  side->send.lock.Release();
  return true;
}
#endif

#if PLANTED == 5  // taken twice
void Planted(Side* side) {
  const LockScope outer(side->send.lock, CurrentTid());
  const LockScope inner(side->send.lock, CurrentTid());
}
#endif

}  // namespace xenloop

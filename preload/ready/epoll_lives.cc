// Registrations of a socket whose number is closed while the kernel's connection lives on for
// another life (side/parked.h): the kernel would keep them, so they are taken out.
#include "preload/ready/epoll_registrations.h"
#include "preload/side/fd_table.h"
#include "preload/side/self.h"

namespace xenloop {

bool EpollKnows(const Side* side) {
  const LockScope scope(registrations_lock, CurrentTid());
  return Of(side).first != 0;
}

void EpollDropsNumber(Side* side, int fd) {
  const uint32_t tid = CurrentTid();
  const LockScope scope(registrations_lock, tid);
  if (scope.result() == LockResult::kReentered) return;
  while (const uint32_t link = Of(side).first) {
    Registration* const registration = RegistrationAt(link - 1);
    EpollSet* const set = registration->set;
    const LockScope inner(set->lock, tid);
    if (registration->fd == fd) KernelControl(set->epfd, EPOLL_CTL_DEL, fd, 0, 0);
    RemoveLocked(set, registration);
  }
}

}  // namespace xenloop

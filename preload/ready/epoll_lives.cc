// Registrations of a socket whose number is closed while the kernel's connection lives on for
// another life (side/parked.h): the kernel would keep them, so they are taken out.
#include "preload/ready/epoll_lazy.h"
#include "preload/ready/epoll_registrations.h"
#include "preload/side/fd_table.h"
#include "preload/side/self.h"

namespace xenloop {

bool EpollMayMove(const Side* side) {
  const uint32_t tid = CurrentTid();
  const RegistrationsScope scope(tid);
  if (scope.result() == LockResult::kReentered) return false;
  for (uint32_t link = Of(side).first; link != 0; link = RegistrationAt(link - 1)->next_of_side) {
    const Registration* const registration = RegistrationAt(link - 1);
    const EpollSet* const set = registration->set;
    const LockScope inner(registration->set->lock, tid);
    if (registration->converted || (registration->events & EPOLLONESHOT) != 0 || set->watched ||
        !MayConvert(set, registration))
      return false;
  }
  return true;
}

namespace {
// The kernel has dropped what it had of the number. False: it goes by TCP here.
bool Enter(EpollSet* set, Registration* registration)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock, set->lock) {
  const uint32_t index = IndexOfRegistration(registration);
  in_doubt = index + 1;
  registration->reported = ~0ull;
  registration->out_reported = registration->kernel_out = false;
  registration->quiet_word = nullptr;
  registration->converted = !set->watched && MayConvert(set, registration) && AddDoorbell(set) &&
                            !SomebodySleepsWithoutBell(set);
  if (registration->converted) {
    TellKernel(set, EPOLL_CTL_ADD, index, registration);
    EnterConverted(set, registration);
    WakeSleepersOf(set);
  } else {
    KernelControl(set->epfd, EPOLL_CTL_ADD, registration->fd, registration->events,
                  registration->data);
  }
  in_doubt = 0;
  return registration->converted;
}
}  // namespace

bool EpollMoves(Side* from, Side* to) {
  const uint32_t tid = CurrentTid();
  const RegistrationsScope scope(tid);
  bool all = true;
  while (const uint32_t link = Of(from).first) {
    Registration* const registration = RegistrationAt(link - 1);
    const LockScope inner(registration->set->lock, tid);
    Of(from).first = registration->next_of_side;
    registration->side = to;
    registration->next_of_side = Of(to).first;
    Of(to).first = link;
    all = Enter(registration->set, registration) && all;
  }
  if (Of(to).first != 0) NameBell(to);
  return all;
}

void EpollDropsNumber(Side* side, int fd) {
  const uint32_t tid = CurrentTid();
  const RegistrationsScope scope(tid);
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

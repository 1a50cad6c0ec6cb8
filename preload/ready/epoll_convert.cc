// See epoll_registrations.h: what becomes of a registration when its side comes to FIFOs, and when
// it goes.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "channel/base/descriptor.h"
#include "channel/base/number.h"
#include "preload/ready/epoll_lazy.h"
#include "preload/ready/epoll_registrations.h"
#include "preload/side/fd_table.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

// The program's flags that we do not hand on: one-shot is counted here; and the shadow socket is
// always writable, which an edge-triggered registration is told only after a send came short.
constexpr uint32_t kRoom = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;
constexpr uint32_t KeptFromKernel(uint32_t events) {
  return EPOLLONESHOT | EPOLLWAKEUP | ((events & EPOLLET) != 0 ? 0 : kRoom);
}

}  // namespace

void UnlinkConverted(EpollSet* set, Registration* registration) {
  if (set->next_look == IndexOfRegistration(registration) + 1)
    set->next_look = registration->next_in_set;
  if (registration->previous_in_set != 0) {
    RegistrationAt(registration->previous_in_set - 1)->next_in_set = registration->next_in_set;
  } else {
    set->first_converted = registration->next_in_set;
  }
  if (registration->next_in_set != 0) {
    RegistrationAt(registration->next_in_set - 1)->previous_in_set = registration->previous_in_set;
  }
  set->converted.fetch_sub(1, std::memory_order_relaxed);
}

bool MayConvert(const EpollSet* set, const Registration* registration) {
  return (registration->events & EPOLLEXCLUSIVE) == 0 && !set->blind && !set->inherited &&
         set->owner_pid == process_state.pid && !IsShared(set);
}

void EnterConverted(EpollSet* set, Registration* registration) {
  const uint32_t self = IndexOfRegistration(registration) + 1;
  registration->previous_in_set = 0;
  registration->next_in_set = set->first_converted;
  if (set->first_converted != 0) RegistrationAt(set->first_converted - 1)->previous_in_set = self;
  set->first_converted = self;
  set->converted.fetch_add(1, std::memory_order_seq_cst);
  set->conversions.fetch_add(1, std::memory_order_relaxed);
}

bool IsOfItsNumber(const Registration& registration) {
  return registration.side == nullptr ? FindEpollSet(registration.fd) == registration.inner
                                      : FindSide(registration.fd) == registration.side;
}

uint32_t KernelMaskOf(const Registration& registration) {
  if (registration.disabled) return EPOLLET;
  return (registration.events & ~KeptFromKernel(registration.events)) |
         (registration.kernel_out ? static_cast<uint32_t>(EPOLLOUT) : 0);
}

int TellKernel(EpollSet* set, int operation, uint32_t index, Registration* registration) {
  const uint32_t events = KernelMaskOf(*registration);
  const int result = KernelControl(set->epfd, operation, registration->fd, events, TagOf(index));
  if (result != 0) return result;
  registration->asked = events;
  registration->in_kernel = true;
  return 0;
}

int UpdateKernel(EpollSet* set, uint32_t index, Registration* registration) {
  if (!IsOfItsNumber(*registration)) return -ENOENT;
  return TellKernel(set, EPOLL_CTL_MOD, index, registration);
}

namespace {
enum class Shot { kArmed, kFired, kUnknown };

// Whether the kernel will still report a one-shot that it has counted so far: its own account of
// the set says so, line by line. Sets too large for that are left alone.
Shot ShotOf(const EpollSet* set, const Registration* registration) {
  constexpr uint32_t kNoEvents = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE;
  static char text[64 * 1024];  // about 900 registrations; under registrations_lock
  char path[48];
  snprintf(path, sizeof path, "/proc/thread-self/fdinfo/%d", set->epfd);
  const long fd = sys::MakeDescriptor(SYS_openat, AT_FDCWD, sys::Word(path), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Shot::kUnknown;
  size_t length = 0;
  long n = 1;
  while (n > 0 && length < sizeof text - 1) {
    n = sys::Call(SYS_read, fd, sys::Word(text + length),
                  static_cast<long>(sizeof text - 1 - length));
    if (n > 0) length += static_cast<size_t>(n);
  }
  sys::Close(static_cast<int>(fd));
  if (n != 0) return Shot::kUnknown;
  text[length] = '\0';
  Shot found = Shot::kUnknown;
  for (const char* line = strstr(text, "tfd:"); line != nullptr; line = strstr(line, "tfd:")) {
    line += 4;
    const char* const events = strstr(line, "events:");
    const char* const data = events == nullptr ? nullptr : strstr(events, "data:");
    if (data == nullptr) return Shot::kUnknown;
    if (NumberAt(line, 10) != static_cast<uint64_t>(registration->fd) ||
        NumberAt(data + 5, 16) != registration->data)
      continue;
    if (found != Shot::kUnknown) return Shot::kUnknown;  // two under one number: which is ours?
    found = (NumberAt(events + 7, 16) & ~kNoEvents) == 0 ? Shot::kFired : Shot::kArmed;
  }
  return found;
}

// seq_cst: before the looks and changes in the kernel's set; pairs with IsAsTheProgramMade, which
// stands behind what the kernel has told.
class Converting {
 public:
  explicit Converting(EpollSet* set) : converting_(set->converting) {
    converting_.store(true, std::memory_order_seq_cst);
  }
  ~Converting() { converting_.store(false, std::memory_order_release); }
  Converting(const Converting&) = delete;
  Converting& operator=(const Converting&) = delete;

 private:
  std::atomic<bool>& converting_;
};

}  // namespace

bool IsAsTheProgramMade(const EpollSet* set, const epoll_event* events, int count,
                        uint32_t conversions) {
  // In this order: who has ended a conversion has counted it.
  if (set->converting.load(std::memory_order_seq_cst) ||
      set->conversions.load(std::memory_order_relaxed) != conversions ||
      set->converted.load(std::memory_order_relaxed) != 0)
    return false;
  for (int i = 0; i < count; ++i) {
    uint32_t index;
    if (IsTag(events[i].data.u64, &index)) return false;
  }
  return true;
}

bool Convert(EpollSet* set, Registration* registration) {
  // Also of one that is converted already: a forked child has it from its parent.
  if (!MayConvert(set, registration) || !AddDoorbell(set)) return false;
  registration->quiet_word = nullptr;
  if (registration->converted) {
    registration->reported = kNothingReported;  // a new FIFO counts from zero
    AddDoorbell(set);                           // the agent may be another one by now
    return true;
  }
  const Converting converting(set);
  if ((registration->events & EPOLLONESHOT) != 0 && !registration->disabled) {
    const Shot shot = ShotOf(set, registration);
    if (shot == Shot::kUnknown) return false;
    // The thread that was told has not armed it again: nobody else may be told.
    registration->disabled = registration->fired_plain = shot == Shot::kFired;
  }
  registration->converted = true;
  registration->out_reported = false;
  registration->kernel_out = false;
  registration->reported = kNothingReported;
  if (UpdateKernel(set, IndexOfRegistration(registration), registration) != 0) {
    registration->converted = false;  // the kernel does not have it as we believed
    registration->disabled = registration->disabled && !registration->fired_plain;
    return false;
  }
  EnterConverted(set, registration);
  return true;
}

void Restore(EpollSet* set, Registration* registration) {
  if (!registration->converted || registration->taken_out) return;
  registration->quiet_word = nullptr;  // the FIFO is let go after this
  // An edge-triggered one stays as it is: a MOD would tell edges anew that the program knows. Waits
  // evaluate it on TCP as well. The next MOD of the program makes it plain again.
  if ((registration->events & EPOLLET) != 0) return;
  UnlinkConverted(set, registration);
  registration->converted = false;
  // A one-shot that has fired keeps its tag: only a MOD of the program arms it again, and until
  // then Translate drops what the kernel still reports (it cannot be told to report no hang-up).
  if (registration->disabled || !IsOfItsNumber(*registration)) return;
  KernelControl(set->epfd, EPOLL_CTL_MOD, registration->fd, registration->events,
                registration->data);
}

void GiveBack(EpollSet* set, Registration* registration) {
  if (!registration->converted && !registration->disabled) return;
  if (registration->converted) UnlinkConverted(set, registration);
  registration->converted = false;
  if (registration->taken_out) {
    SilenceTakenOut(set, registration);
    return;
  }
  const auto none = static_cast<uint32_t>(EPOLLONESHOT);
  KernelControl(set->epfd, EPOLL_CTL_MOD, registration->fd,
                registration->disabled ? none : registration->events, registration->data);
}

}  // namespace xenloop

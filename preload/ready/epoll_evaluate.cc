// What is to be told of one converted registration: what the kernel says of its socket, and what
// its FIFOs hold.
#include <sys/epoll.h>

#include "preload/ready/epoll_registrations.h"
#include "preload/ready/readiness.h"

namespace xenloop {
namespace {

uint32_t EvaluateWatch(Registration* registration, uint32_t from_kernel, Self self) {
  const uint32_t wanted = registration->events;
  uint32_t events = from_kernel & (wanted | kAlways);
  uint64_t news = 0;
  if (SetHolds(registration->inner, &news, self) &&
      ((wanted & EPOLLET) == 0 || news != registration->reported)) {
    registration->reported = news;
    events |= kRead & wanted;
  }
  return events;
}

// The kernel first, our note second: a look that is cut short between them is repeated.
void AskKernelForRoom(Registration* registration, uint32_t index, bool ask) {
  Registration asking = *registration;
  asking.kernel_out = ask;
  UpdateKernel(registration->set, index, &asking);
  registration->kernel_out = ask;
  registration->asked = asking.asked;
}

uint32_t OfKernel(int fd, Side* side, uint32_t wanted) {
  // The bits of poll and epoll are the same.
  constexpr uint32_t kOfPoll = EPOLLIN | EPOLLPRI | EPOLLRDNORM | EPOLLRDBAND | EPOLLRDHUP;
  return static_cast<uint32_t>(
      static_cast<uint16_t>(KernelEvents(fd, side, static_cast<short>(wanted & kOfPoll))));
}

// To what a FIFO has made news. A one-shot tells once: what the kernel has for it (an end, bytes of
// TCP) belongs to that. And what the program has shut down itself stays an end, whatever comes.
bool KernelMayAdd(const Side* side, uint32_t wanted, const FifoReadiness& ready) {
  return ((wanted & EPOLLONESHOT) != 0 && !ready.in) ||
         side->shut.load(std::memory_order_relaxed) != 0;
}

bool WouldHoldMore(int fd, const Side* side) {
  return SendStream::HoldsRoom(side->send.route.load(std::memory_order_relaxed)) ||
         KernelWritable(fd);
}

// Bytes that are read already: there is nothing to read, but for them the kernel wakes the set, and
// tells what else is so.
bool HaveComeAndGone(const Side* side, uint64_t reported, const FifoReadiness& ready) {
  return !ready.in && ready.published != 0 && IndexOf(ready.published) != IndexOf(reported) &&
         side->receive_low_water.load(std::memory_order_relaxed) <= 1;
}

}  // namespace

uint32_t EvaluateOn(Registration* registration, uint32_t index, uint32_t from_kernel, Self self) {
  // One that has just been given back to the kernel is reported anew, by its own data.
  if (registration->disabled || !registration->converted || registration->taken_out) return 0;
  registration->quiet_word = nullptr;
  if (registration->inner != nullptr) return EvaluateWatch(registration, from_kernel, self);
  Side* side = registration->side;
  const uint32_t wanted = registration->events;
  const bool edge = (wanted & EPOLLET) != 0;
  if (from_kernel != 0) from_kernel |= OfKernel(registration->fd, side, wanted);
  uint32_t events = from_kernel & ((wanted & ~kWrite) | kAlways);
  // Room is told when it is news: on the FIFO after a send that found none, on TCP when the kernel
  // says so.
  const uint32_t found_full = side->send.found_full.load(std::memory_order_relaxed);
  if ((from_kernel & kWrite) != 0 || found_full != registration->found_full)
    registration->out_reported = false;
  const bool want_room = (wanted & kWrite) != 0 && !(edge && registration->out_reported);
  const FifoReadiness ready = ReadinessOf(registration->fd, side, want_room, self);
  bool news = events != 0;
  if (ready.in && (!edge || ready.published != registration->reported)) {
    const uint32_t told = (kRead | (ready.ended ? EPOLLRDHUP : 0u)) & wanted;
    events |= told;
    news = news || told != 0;
    registration->reported = ready.published;
  } else if (edge && (wanted & kRead) != 0 &&
             HaveComeAndGone(side, registration->reported, ready)) {
    registration->reported = ready.published;
    news = true;
    if (WouldHoldMore(registration->fd, side)) events |= kWrite & wanted;
  }
  const bool room =
      want_room && (ready.out || (ready.out_from_kernel && KernelWritable(registration->fd)));
  // While sends go by TCP it is the kernel that must wake us when there is room again; its edges
  // come unasked.
  const bool ask_kernel = want_room && !room && ready.out_from_kernel && !edge;
  if (ask_kernel != registration->kernel_out) AskKernelForRoom(registration, index, ask_kernel);
  if (room) {
    events |= kWrite & wanted;
    news = true;
    registration->out_reported = true;
    registration->found_full = found_full;
  }
  if (!news || events == 0) {
    if ((wanted & kWrite) == 0 && from_kernel == 0) {
      registration->quiet = ready.published;
      registration->quiet_word = ready.empty;
    }
    return 0;
  }
  // As the kernel does, an edge tells the whole state: room that was told before is told again with
  // new data.
  if (edge && registration->out_reported && (wanted & kWrite) != 0 &&
      WouldHoldMore(registration->fd, side)) {
    events |= kWrite & wanted;
  }
  if (edge && ready.in) events |= (kRead | (ready.ended ? EPOLLRDHUP : 0u)) & wanted;
  if (from_kernel == 0 && KernelMayAdd(side, wanted, ready))
    events |= OfKernel(registration->fd, side, wanted) & ((wanted & ~kWrite) | kAlways);
  return events;
}

// seq_cst: behind our count as a sleeper; pairs with the publication.
bool IsQuiet(const Registration* registration) {
  return registration->quiet_word != nullptr &&
         registration->quiet_word->load(std::memory_order_seq_cst) == registration->quiet;
}

bool Holds(uint32_t index, uint64_t* news, Self self) {
  Registration copy = *RegistrationAt(index);
  const bool found = EvaluateOn(&copy, index, 0, self) != 0;
  RegistrationAt(index)->kernel_out = copy.kernel_out;  // what the kernel has been told
  RegistrationAt(index)->asked = copy.asked;
  if (found) *news += (copy.reported + copy.found_full + 1) * (2ull * index + 1);
  return found;
}

}  // namespace xenloop

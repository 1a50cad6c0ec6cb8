// Epoll sets as this library sees them. Every registration stays in the kernel's set, so nesting,
// sharing and closing keep the kernel's semantics. While a socket is accelerated its registration
// is *converted*: in the kernel it carries a tag instead of the program's data and, if it is
// level-triggered, no EPOLLOUT (the shadow socket is always writable), and the set holds our
// doorbell and a bell of its own (side/bells.h); EpollWait turns both back into what the program
// registered.
//
// Locks: `registrations_lock` guards structure (who is registered where, who is converted), a set's
// own lock what a wait looks at. The list of a set's converted registrations is changed under both,
// and read under either. Order: registrations_lock, a set's lock, a stream's (preload/README.md,
// "Threads and locks").
#pragma once

#include <signal.h>
#include <sys/epoll.h>
#include <time.h>

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "channel/base/abandon.h"
#include "channel/base/lock.h"
#include "preload/ready/set_sleepers.h"
#include "preload/side/interruption.h"
#include "preload/side/side.h"

namespace xenloop {

inline constexpr uint32_t kMaxRegistrations = 1 << 16;

struct EpollSet;

extern RecoverableLock registrations_lock;

struct Registration {
  bool in_use;
  bool converted;
  bool disabled;      // one-shot, has fired
  bool fired_plain;   // it fired before it was converted: that event comes under its own data
  bool kernel_out;    // the kernel is asked for EPOLLOUT: sends go by TCP, and it is full
  bool out_reported;  // edge-triggered: room has been told, and no send has come short since
  bool taken_out;     // by the program; the kernel may not know yet (epoll_lazy.h)
  bool in_kernel;     // converted: the kernel's set has it
  int fd;
  uint32_t events;  // as the program gave them
  uint32_t asked;   // converted: as the kernel has them, or more
  uint64_t data;
  uint64_t token;       // the look at the set that has evaluated it last
  uint32_t found_full;  // by the side's count, when room was told
  int told_at;          // where that look put its event; -1: it had none
  uint64_t reported;    // edge-triggered: the producer index at the last report; all ones: none yet
  // The incoming FIFO's producer word, mapped until the agent has restored the registration, and
  // what stood there when nothing was to be told: while it stands there, nothing is. nullptr: look.
  const std::atomic<uint64_t>* quiet_word;
  uint64_t quiet;
  Side* side;       // null where another set is watched:
  EpollSet* inner;  // then it is this one
  EpollSet* set;
  uint32_t next_of_side;                  // or of the inner set; index + 1
  uint32_t next_in_set, previous_in_set;  // of the converted ones; index + 1
  uint32_t next_free;
};

struct Inheritance {
  uint64_t since;       // no program that has it has been started before; in ticks since the boot
  uint64_t look_at_ns;  // by the agent's clock, whether it still has it; 0: not asked for yet
  uint64_t pause_ns;    // until the look after that
  uint32_t times;       // that it has come back, and was inherited again
  uint32_t programs;    // that have been started, and could inherit it
};

struct alignas(64) EpollSet {  // aligned: the descriptor table keeps a tag in a pointer's low bits
  RecoverableLock lock;
  bool in_use ABSL_GUARDED_BY(registrations_lock);
  bool has_doorbell ABSL_GUARDED_BY(registrations_lock);
  std::atomic<bool>
      watched;  // by another set or by poll, which have the doorbell in its stead (epoll_nested.cc)
  std::atomic<bool> blind;  // somebody waits for it whom we cannot wake: its sockets stay on TCP
  uint32_t first_watch ABSL_GUARDED_BY(registrations_lock);  // of it in others; index + 1
  int references ABSL_GUARDED_BY(registrations_lock);        // descriptors
  int owner_pid;  // a set inherited over fork is not converted: the other process could not read
                  // the tags
  int epfd;
  std::atomic<uint32_t> bell;  // of this set alone, beside the doorbell; or kAnyBell
  uint32_t turn ABSL_GUARDED_BY(lock);
  std::atomic<uint32_t> converted;  // how many
  SetSleepers sleepers;
  std::atomic<uint32_t> plain_polls;  // those asleep in poll that do not look at its FIFOs
  std::atomic<uint32_t> conversions;  // so far
  // One is half done: what the kernel has told under its own data may be about it.
  std::atomic<bool> converting;
  uint32_t first_converted;  // index + 1
  // A handler that had interrupted one of our own looks has changed it in the kernel: what that has
  // is known from its answers only.
  std::atomic<bool> changed_in_handler;
  std::atomic<uint32_t> taken_out;  // how many are marked so
  std::atomic<uint32_t> serial;     // changes when a set begins at this place, and when it ends
  // Shared with the children that have the set: the serial of the last set of this place in which
  // another process than its owner has waited. nullptr: no child has it (epoll_shared.cc).
  std::atomic<uint32_t>* waited_elsewhere;
  std::atomic<bool> inherited;  // a started program may have it (epoll_inherited.cc)
  Inheritance inheritance ABSL_GUARDED_BY(registrations_lock);
  std::atomic<uint32_t> datagrams;  // UDP sockets that are watched (datagram_epoll.cc)
  std::atomic<uint32_t> datagram_turn;
  uint32_t next_look
      ABSL_GUARDED_BY(lock);  // where the next look begins; index + 1, 0: at the first
};

// Called after a successful epoll_create*.
void EpollCreated(int epfd);
// After `fd` was put into a set that we do not know: nobody would look at its FIFOs there.
void EpollUnfollowed(int fd);
// As epoll_ctl, makes the real call itself if need be. -errno.
int EpollControl(int epfd, EpollSet* set, int operation, int fd, epoll_event* event);
// The call that the program made. The kernel is asked by no other: older kernels, containers and
// sandboxes may refuse the newer ones.
enum class EpollCall : uint8_t { kWait, kPwait, kPwait2 };
// Nothing of the set is on a FIFO, nor can be before a bare wait (side/bare_wait.h) in it is over;
// and no child of a fork waits in it.
inline bool EpollSetIsTheKernels(const EpollSet* set) {
  return set->converted.load(std::memory_order_relaxed) == 0 &&
         !set->watched.load(std::memory_order_relaxed) && set->waited_elsewhere == nullptr &&
         set->owner_pid == process_state.pid;
}
// As that call; timeout null: for ever. -errno.
int EpollWait(int epfd, EpollSet* set, epoll_event* events, int max_events, const timespec* timeout,
              const sigset_t* mask, EpollCall call);

// Its part that knows nothing of datagrams. `interruption`: begun with the program's call.
int WaitInSet(int epfd, EpollSet* set, epoll_event* events, int max_events, const timespec* timeout,
              const sigset_t* mask, EpollCall call, const Interruption& interruption);

// For the agent: converts all registrations of a side, before it is attached. False: one of them
// cannot be.
bool PrepareRegistrations(Side* side);
// Gives all registrations of a side back to the kernel as the program made them.
void RestoreRegistrations(Side* side);

// What is unread may be reported once more, also to those who have been told of it: as the kernel
// does when a program sets SO_RCVLOWAT.
void EpollTellsAnew(Side* side);

// For fd_life.cc. No descriptor of the side is left, so the kernel drops its registrations.
void EpollForgets(Side* side);
// Is the side registered in a set of this process by that number?
bool EpollKnowsBy(const Side* side, int fd);
// The number (kAnyNumber: each that it has) is being closed, and the socket lives on elsewhere: so
// does what the kernel's sets have of it, by a number that soon may be another's. They have it as
// the program made it from here on, and we know of it no more. While the number still means it, and
// after its bytes have gone to TCP.
inline constexpr int kAnyNumber = -1;
void EpollLosesNumber(Side* side, int fd);
// Another socket is about to take the place of this one, under its number: may its registrations
// be those of the other then? And they are, once it has. False: only if that one goes by TCP.
bool EpollMayMove(const Side* side);
bool EpollMoves(Side* from, Side* to);
// The number is being closed, and the socket goes on for us alone: no set has it any more.
void EpollDropsNumber(Side* side, int fd);
void EpollSetDuplicated(EpollSet* set);
void EpollSetClosed(int epfd, EpollSet* set);
void EpollBeforeFork();
void EpollForkedChild();
// The agent has ended, and its doorbell with it.
void EpollWithoutAgent();
// And all sides are forgotten: the kernel has the registrations as the program made them.
void EpollForgetsSides();
// And all sets: not looked at again.
void EpollForgetsAll();
// A filter of system calls may stand from here on, until a doubt ends: room for the sets that are
// made meanwhile. A wait makes the program's own call then and no other.
void EpollBeforeDoubt();

// A thread has left its epoll_ctl half done, for good: gives that one registration back to the
// kernel and puts the rest in order.
void RepairRegistrations();
bool IsRegistrationsLock(const RecoverableLock* lock);

// Somebody waits for the set itself, and looks at its FIFOs: poll, select. In doubt nobody looks.
void EpollSetIsWatched(EpollSet* set);
// Somebody waits for the set who does not: its sockets go by TCP for good.
void EpollSetIsWatchedBlindly(EpollSet* set);
// Other programs get it: its sockets go by TCP for good, and the kernel has all of its
// registrations as the program made them when this returns.
void EpollSetLeaves(EpollSet* set);
// The same for as long as another program has it, which we start (epoll_inherited.cc).
void EpollSetIsInherited(EpollSet* set);
// While one stands, such a program is being started.
class ProgramStarts : public Abandonable {
 public:
  ProgramStarts();
  ~ProgramStarts();
};
// Likewise from before this thread makes a child in our memory until that exists, and says so when
// it becomes a program or ends.
void ChildIsMade();
void ChildIsSeen();
// Is the side registered in such a set? Then it is not to be upgraded.
bool IsInInheritedSet(const Side* side);
// For the agent, which asks who has them. Those that it is time to ask for; how many. `next`: when
// the next of the others is due.
struct InheritedSet {
  EpollSet* set;
  int epfd;
  uint32_t programs;
  uint64_t since;
};
size_t InheritedSetsDue(uint64_t now, InheritedSet* due, size_t most, uint64_t* next);
// Nobody else has it. False: somebody may have by now. `visit` is called with its sides.
bool EndInheritance(const InheritedSet& ended, void (*visit)(Side* side));
// Would a wait in the set return something that stands in a FIFO? `news` changes with what it is.
bool SetHolds(EpollSet* set, uint64_t* news, Self self);
// The same of one registration, which is not reported by that. Under its set's lock.
bool Holds(uint32_t index, uint64_t* news, Self self);

// A forked child waits in a set of its parent: no doorbell rings for the child, so what its parent
// had on FIFOs when it was forked goes by TCP.
void EpollSetIsShared(EpollSet* set);

// For epoll_wait.cc.
Registration* RegistrationAt(uint32_t index);
// The tag of a converted registration, or of the doorbell (index kDoorbellIndex).
inline constexpr uint32_t kDoorbellIndex = 0xffffff;
uint64_t TagOf(uint32_t index);
bool IsTag(uint64_t data, uint32_t* index);
// Tells the kernel what a converted registration wants now (nothing, if it is a one-shot that has
// fired).
int UpdateKernel(EpollSet* set, uint32_t index, Registration* registration);

}  // namespace xenloop

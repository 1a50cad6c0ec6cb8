// See jump.h.
#include "preload/process/jump.h"

#include <fcntl.h>
#include <signal.h>

#include "channel/base/abandon.h"
#include "preload/ready/epoll.h"
#include "preload/side/bare_wait.h"
#include "preload/side/datagram_side.h"
#include "preload/side/fallback.h"

namespace xenloop {
namespace {

constexpr int kMostLocks = 8;

#if defined(__aarch64__)
constexpr int kStackPointer = 13;

// What glibc disguises its pointers with, and keeps to itself there: a point of our own shows it.
__attribute__((noinline)) uint64_t Secret() {
  sigjmp_buf here;
  if (__sigsetjmp(here, 0) != 0) return 0;
  uint64_t stack_pointer;
  __asm__ volatile("mov %0, sp" : "=r"(stack_pointer));
  return static_cast<uint64_t>(here[0].__jmpbuf[kStackPointer]) ^ stack_pointer;
}
#endif

// glibc stores the stack pointer disguised. 0: not known on this machine.
uintptr_t StackPointerIn(const __jmp_buf_tag* target) {
#if defined(__x86_64__)
  constexpr int kStackPointer = 6;
  auto disguised = static_cast<uint64_t>(target->__jmpbuf[kStackPointer]);
  uint64_t secret;
  __asm__("mov %%fs:0x30, %0" : "=r"(secret));
  disguised = (disguised >> 17) | (disguised << 47);
  return disguised ^ secret;
#elif defined(__aarch64__)
  return static_cast<uint64_t>(target->__jmpbuf[kStackPointer]) ^ Secret();
#else
  static_cast<void>(target);
  return 0;
#endif
}

// Is it a stack pointer at all? Tried once, on a point of our own.
__attribute__((noinline)) bool Understood() {
  sigjmp_buf here;
  if (__sigsetjmp(here, 0) != 0) return false;
  const uintptr_t found = StackPointerIn(here);
  const auto frame = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  return found <= frame && frame - found < sizeof(sigjmp_buf) + 4096;
}

// A handler on a stack of its own that jumps about there.
bool StaysOnSignalStack(uintptr_t target) {
  stack_t stack{};
  if (sys::Call(SYS_sigaltstack, 0, reinterpret_cast<long>(&stack)) != 0) return false;
  const auto base = reinterpret_cast<uintptr_t>(stack.ss_sp);
  return (stack.ss_flags & SS_ONSTACK) != 0 && target >= base && target - base <= stack.ss_size;
}

// 0: not known on this machine.
uintptr_t StackPointerOf(const ucontext_t& context) {
#if defined(__x86_64__)
  return static_cast<uintptr_t>(context.uc_mcontext.gregs[REG_RSP]);
#elif defined(__aarch64__)
  return static_cast<uintptr_t>(context.uc_mcontext.sp);
#else
  static_cast<void>(context);
  return 0;
#endif
}

// One mapping holds both, the second above the first: coroutines have stacks of their own.
bool OnOneStack(uintptr_t frame, uintptr_t target) {
  if (frame >= target) return false;
  const long maps =
      sys::Call(SYS_openat, AT_FDCWD, sys::Word("/proc/thread-self/maps"), O_RDONLY | O_CLOEXEC);
  if (maps < 0) return false;
  bool found = false;
  uintptr_t ends[2] = {0, 0};  // of the mapping in this line
  int field = 0;               // which of them is being read; 2: the rest of the line
  char buffer[512];
  for (ssize_t got;
       !found && (got = sys::Read(static_cast<int>(maps), buffer, sizeof buffer)) > 0;) {
    for (ssize_t i = 0; i < got && !found; ++i) {
      const char c = buffer[i];
      if (c == '\n') {
        ends[0] = ends[1] = 0;
        field = 0;
      } else if (field < 2 && (c == '-' || c == ' ')) {
        ++field;
        found = field == 2 && frame >= ends[0] && target <= ends[1];
      } else if (field < 2) {
        ends[field] = ends[field] * 16 + static_cast<uintptr_t>(c <= '9' ? c - '0' : c - 'a' + 10);
      }
    }
  }
  sys::Close(static_cast<int>(maps));
  return found;
}

// The side to which a lock belongs, or nullptr.
Side* SideOf(const RecoverableLock* lock) {
  SideArena* const arena = Arena();
  const auto address = reinterpret_cast<uintptr_t>(lock);
  if (arena == nullptr || address < reinterpret_cast<uintptr_t>(arena->sides) ||
      address >= reinterpret_cast<uintptr_t>(arena->sides + kMaxSides)) {
    return nullptr;
  }
  return &arena->sides[(address - reinterpret_cast<uintptr_t>(arena->sides)) / sizeof(Side)];
}

// Gives back what the calls hold whose frames lie below.
void LeaveCallsBelow(uintptr_t limit) {
  sys::SignalsBlocked blocked;
  Side* sides[kMostLocks];
  int count = 0;
  bool registrations = false;
  Abandonable::AbandonBelow(limit, [&](const Abandonable* scope) {
    const RecoverableLock* const lock = LockScope::HeldBy(scope);
    if (lock == nullptr) return;
    DatagramLockAbandoned(lock);
    registrations = registrations || IsRegistrationsLock(lock);
    Side* const side = SideOf(lock);
    if (side != nullptr && count < kMostLocks) sides[count++] = side;
  });
  if (registrations) RepairRegistrations();
  // What was published may not have been announced: the end of the FIFO wakes everybody.
  for (int i = 0; i < count; ++i)
    FallBack(sides[i]->fd.load(std::memory_order_acquire), sides[i], Reason::kJump);
}

}  // namespace

void BeforeJump(const __jmp_buf_tag* target) {
  if (__builtin_expect(!Abandonable::Any() && !BareWait::Any(), 1)) return;
  const uintptr_t limit = StackPointerIn(target);
  if (limit == 0 || !Understood() || StaysOnSignalStack(limit)) return;
  BareWait::AbandonBelow(limit);
  if (Abandonable::Any()) LeaveCallsBelow(limit);
}

void BeforeSetContext(const ucontext_t* target) {
  if (__builtin_expect(!Abandonable::Any() || target == nullptr, 1)) return;
  const uintptr_t limit = StackPointerOf(*target);
  if (limit != 0 && !StaysOnSignalStack(limit) && OnOneStack(Abandonable::Innermost(), limit))
    LeaveCallsBelow(limit);
}

}  // namespace xenloop

// See handlers.h. The kernel is told a function of ours, one of a few for each signal in turn; what
// stands behind it is written before the kernel knows of it, and stays until that one's turn comes
// again. So a handler is never seen with another one's flags, and nobody needs a lock, which a
// handler that calls sigaction might find taken.
#include "preload/process/handlers.h"

#include <atomic>
#include <utility>

#include "preload/side/holders.h"
#include "preload/side/interruption.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

// With fewer, two threads that change one signal's action at once could meet in one.
constexpr int kEntries = 8;

using Handler = void (*)(int, siginfo_t*, void*);

struct Programs {
  std::atomic<Handler> handler;
  std::atomic<uint64_t> flags;
};
struct OfSignal {
  Programs entries[kEntries];
  std::atomic<uint32_t> turn;
  std::atomic<int> installed;  // the last one that the kernel has taken
};
OfSignal of_signal[kMostSignals + 1] = {};
std::atomic<uint64_t> interrupts{0};  // bit: signal - 1

// A thread that runs with another thread pointer than libc's (Wine's 32-bit code) has no counts.
bool IsLibcsThread() {
#if defined(__x86_64__)
  uint32_t selector;
  __asm__ volatile("mov %%fs, %0" : "=r"(selector));
  return selector == 0;
#else
  return true;
#endif
}

// What the kernel calls. The last thing is a jump: the handler finds the stack as if it had been
// called by the kernel.
template <int kEntry>
void Enter(int signal, siginfo_t* info, void* context) {
  if (signal < 1 || signal > kMostSignals) return;
  const Programs& programs = of_signal[signal].entries[kEntry];
  const Handler handler = programs.handler.load(std::memory_order_acquire);
  const bool restarts = (programs.flags.load(std::memory_order_relaxed) & SA_RESTART) != 0;
  if (IsLibcsThread()) HandlerBegins(signal, restarts, context);
  return handler(signal, info, context);
}

template <int... kEntry>
constexpr Handler EnterOf(int entry, std::integer_sequence<int, kEntry...>) {
  constexpr Handler kAll[] = {&Enter<kEntry>...};
  return kAll[entry];
}
uintptr_t AddressOf(int entry) {
  return reinterpret_cast<uintptr_t>(EnterOf(entry, std::make_integer_sequence<int, kEntries>()));
}
int EntryAt(uintptr_t handler) {
  for (int i = 0; i < kEntries; ++i) {
    if (handler == AddressOf(i)) return i;
  }
  return -1;
}

// While a filter may stand, no system call is made to find that out.
bool IsBorrowed() { return process_state.ready && InBorrowedMemory(); }

bool IsSignal(int signal) { return signal >= 1 && signal <= kMostSignals; }
// SIG_DFL, SIG_IGN, SIG_HOLD, SIG_ERR.
bool IsHandler(uintptr_t handler) { return handler > 2 && handler != UINTPTR_MAX; }

}  // namespace

HandlerChange::HandlerChange(int signal, HandlerAction* wanted) : signal_(signal), entry_(-1) {
  // A child in borrowed memory has actions of its own, but our words are its parent's. What is ours
  // already was read by a call that we have not seen.
  if (!IsSignal(signal) || !IsHandler(wanted->handler) || EntryAt(wanted->handler) >= 0 ||
      !MayKnow() || IsBorrowed())
    return;
  OfSignal& of = of_signal[signal];
  do {
    entry_ = static_cast<int>(of.turn.fetch_add(1, std::memory_order_relaxed) % kEntries);
  } while (entry_ == of.installed.load(std::memory_order_relaxed));
  Programs& programs = of.entries[entry_];
  programs.flags.store(wanted->flags, std::memory_order_relaxed);
  // release: the kernel knows of it only behind this.
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the two forms of sa_handler
  programs.handler.store(reinterpret_cast<Handler>(wanted->handler), std::memory_order_release);
  wanted->handler = AddressOf(entry_);
  wanted->flags |= SA_SIGINFO;  // else arm64 tells no context
}

void HandlerChange::Succeeded() const {
  if (entry_ >= 0) of_signal[signal_].installed.store(entry_, std::memory_order_relaxed);
}

void AsProgramsOwn(int signal, HandlerAction* found) {
  const int entry = IsSignal(signal) ? EntryAt(found->handler) : -1;
  if (entry < 0) return;
  const Programs& programs = of_signal[signal].entries[entry];
  found->handler = reinterpret_cast<uintptr_t>(programs.handler.load(std::memory_order_acquire));
  if ((programs.flags.load(std::memory_order_relaxed) & SA_SIGINFO) == 0)
    found->flags &= ~uint64_t{SA_SIGINFO};
}

void RestartsChanged(int signal, const HandlerAction& installed) {
  const int entry = IsSignal(signal) ? EntryAt(installed.handler) : -1;
  if (entry < 0 || IsBorrowed()) return;
  std::atomic<uint64_t>& flags = of_signal[signal].entries[entry].flags;
  const uint64_t others = flags.load(std::memory_order_relaxed) & ~uint64_t{SA_RESTART};
  flags.store(others | (installed.flags & SA_RESTART), std::memory_order_relaxed);
}

void SetInterrupts(int signal, bool interrupt) {
  const uint64_t bit = uint64_t{1} << (signal - 1);
  if (!IsSignal(signal) || IsBorrowed()) return;
  interrupt ? interrupts.fetch_or(bit, std::memory_order_relaxed)
            : interrupts.fetch_and(~bit, std::memory_order_relaxed);
}

bool Interrupts(int signal) {
  return IsSignal(signal) &&
         ((interrupts.load(std::memory_order_relaxed) >> (signal - 1)) & 1) != 0;
}

}  // namespace xenloop

// See handlers.h. The kernel is told a function of ours, one of a few for each signal; what stands
// behind it is one word, written before the kernel knows of it. It stays: who installs the same
// again gets the same function, and only where a signal has more handlers than there are functions
// is one taken away. So a handler is never seen with another one's flags, who brings an action back
// that he has read unseen brings back the right one, and nobody needs a lock, which a handler that
// calls sigaction might find taken.
#include "preload/process/handlers.h"

#include <atomic>
#include <utility>

#include "preload/side/holders.h"
#include "preload/side/interruption.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

constexpr int kEntries = 8;

using Handler = void (*)(int, siginfo_t*, void*);

// A handler, and which of two flags it has.
constexpr uint64_t kRestarts = uint64_t{1} << 63;
constexpr uint64_t kIsTold = uint64_t{1} << 62;
constexpr uint64_t kAddress = kIsTold - 1;

struct OfSignal {
  std::atomic<uint64_t> entries[kEntries];
  std::atomic<uint32_t> turn;
  std::atomic<int> installed;  // the last one that the kernel has taken, plus 1; 0: none of ours
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
  const uint64_t programs = of_signal[signal].entries[kEntry].load(std::memory_order_relaxed);
  if (IsLibcsThread()) HandlerBegins(signal, (programs & kRestarts) != 0, context);
  // NOLINTNEXTLINE(performance-no-int-to-ptr)
  return reinterpret_cast<Handler>(programs & kAddress)(signal, info, context);
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
bool IsBorrowed() { return process_state.ready ? InBorrowedMemory() : process_state.lends; }

bool IsSignal(int signal) { return signal >= 1 && signal <= kMostSignals; }
// SIG_DFL, SIG_IGN, SIG_HOLD, and what no function's address is (SIG_ERR).
bool IsHandler(uintptr_t handler) { return handler > 2 && handler <= kAddress; }

uint64_t WordOf(const HandlerAction& wanted) {
  return wanted.handler | ((wanted.flags & SA_RESTART) != 0 ? kRestarts : 0) |
         ((wanted.flags & SA_SIGINFO) != 0 ? kIsTold : 0);
}

int EntryWith(OfSignal& of, uint64_t word) {
  for (int i = 0; i < kEntries; ++i) {
    if (of.entries[i].load(std::memory_order_relaxed) == word) return i;
  }
  int entry;
  do {
    entry = static_cast<int>(of.turn.fetch_add(1, std::memory_order_relaxed) % kEntries);
  } while (entry + 1 == of.installed.load(std::memory_order_relaxed));
  of.entries[entry].store(word, std::memory_order_relaxed);
  return entry;
}

}  // namespace

HandlerChange::HandlerChange(int signal, HandlerAction* wanted) : signal_(signal), entry_(kKeep) {
  // A child in borrowed memory has actions of its own, but our words are its parent's.
  if (wanted == nullptr || !IsSignal(signal) || !MayKnow() || IsBorrowed()) return;
  entry_ = EntryAt(wanted->handler);  // ours already: it was read by a call that we have not seen
  if (entry_ >= 0 || !IsHandler(wanted->handler)) return;
  entry_ = EntryWith(of_signal[signal], WordOf(*wanted));
  wanted->handler = AddressOf(entry_);
  wanted->flags |= SA_SIGINFO;  // else arm64 tells no context
}

void HandlerChange::Succeeded() const {
  if (entry_ != kKeep) of_signal[signal_].installed.store(entry_ + 1, std::memory_order_relaxed);
}

void AsProgramsOwn(int signal, HandlerAction* found) {
  if (!IsSignal(signal)) return;
  OfSignal& of = of_signal[signal];
  int entry = EntryAt(found->handler);
  const bool is_ours = entry >= 0;
  // One that has run once: the kernel has taken the handler away, and left the flags.
  if (found->handler == 0 && (found->flags & SA_RESETHAND) != 0)
    entry = of.installed.load(std::memory_order_relaxed) - 1;
  if (entry < 0) return;
  const uint64_t programs = of.entries[entry].load(std::memory_order_relaxed);
  if (is_ours) found->handler = programs & kAddress;
  if ((programs & kIsTold) == 0) found->flags &= ~uint64_t{SA_SIGINFO};
}

void RestartsChanged(int signal, const HandlerAction& installed) {
  const int entry = IsSignal(signal) ? EntryAt(installed.handler) : -1;
  if (entry < 0 || IsBorrowed()) return;
  std::atomic<uint64_t>& word = of_signal[signal].entries[entry];
  (installed.flags & SA_RESTART) != 0 ? word.fetch_or(kRestarts, std::memory_order_relaxed)
                                      : word.fetch_and(~kRestarts, std::memory_order_relaxed);
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

// See interruption.h.
#include "preload/side/interruption.h"

#include <ucontext.h>

#include <type_traits>

#include "channel/base/sys.h"
#include "preload/side/bare_wait.h"
#include "preload/side/self.h"

// long xenloop_sleeping_call(const long call[7], const uint64_t* count, uint64_t expected): the
// system call call[0], unless *count is another one. From `xenloop_sleeping_begin` up to the system
// call the thread has nothing on its stack, so that a handler can turn it back by its program
// counter alone.
extern "C" {
long xenloop_sleeping_call(const long* call, const uint64_t* count, uint64_t expected);
// NOLINTNEXTLINE(readability-identifier-naming)
extern const char xenloop_sleeping_begin[];
// NOLINTNEXTLINE(readability-identifier-naming)
extern const char xenloop_sleeping_end[];
// NOLINTNEXTLINE(readability-identifier-naming)
extern const char xenloop_sleeping_back[];
}
static_assert(xenloop::kHandlerBegan == -100002, "the value in the code below");

// clang-format off
#if defined(__x86_64__)
#define XENLOOP_SLEEPING_CODE \
  "        movq    %rsi, %r11\n" \
  "        movq    %rdx, %rcx\n" \
  "        movq    %rdi, %rax\n" \
  "        movq    8(%rax), %rdi\n" \
  "        movq    16(%rax), %rsi\n" \
  "        movq    24(%rax), %rdx\n" \
  "        movq    32(%rax), %r10\n" \
  "        movq    40(%rax), %r8\n" \
  "        movq    48(%rax), %r9\n" \
  "        movq    0(%rax), %rax\n" \
  "xenloop_sleeping_begin:\n" \
  "        cmpq    %rcx, (%r11)\n" \
  "        jne     xenloop_sleeping_back\n" \
  "        syscall\n" \
  "xenloop_sleeping_end:\n" \
  "        ret\n" \
  "xenloop_sleeping_back:\n" \
  "        movq    $-100002, %rax\n" \
  "        ret\n"
#elif defined(__aarch64__)
#define XENLOOP_SLEEPING_CODE \
  "        mov     x9, x1\n" \
  "        mov     x10, x2\n" \
  "        mov     x11, x0\n" \
  "        ldr     x8, [x11]\n" \
  "        ldp     x0, x1, [x11, #8]\n" \
  "        ldp     x2, x3, [x11, #24]\n" \
  "        ldp     x4, x5, [x11, #40]\n" \
  "xenloop_sleeping_begin:\n" \
  "        ldr     x12, [x9]\n" \
  "        cmp     x12, x10\n" \
  "        b.ne    xenloop_sleeping_back\n" \
  "        svc     0\n" \
  "xenloop_sleeping_end:\n" \
  "        ret\n" \
  "xenloop_sleeping_back:\n" \
  "        ldr     x0, =-100002\n" \
  "        ret\n" \
  "        .ltorg\n"
#endif

__asm__(
    "        .text\n"
    "        .hidden xenloop_sleeping_call, xenloop_sleeping_begin\n"
    "        .hidden xenloop_sleeping_end, xenloop_sleeping_back\n"
    "        .globl  xenloop_sleeping_call, xenloop_sleeping_begin\n"
    "        .globl  xenloop_sleeping_end, xenloop_sleeping_back\n"
    "        .type   xenloop_sleeping_call, %function\n"
    "xenloop_sleeping_call:\n"
    "        .cfi_startproc\n"
    XENLOOP_SLEEPING_CODE
    "        .cfi_endproc\n"
    "        .size   xenloop_sleeping_call, . - xenloop_sleeping_call\n");
// clang-format on

namespace xenloop {

__thread HandlerCounts handler_counts;
int planted_signal;

namespace {

// Where it goes on after the handler.
auto* ProgramCounterIn(void* context) {
  auto& machine = static_cast<ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  return &machine.gregs[REG_RIP];
#else
  return &machine.pc;
#endif
}

}  // namespace

bool Interruption::CameThrough(const sigset_t* mask) const {
  const auto at_begin = static_cast<uint32_t>(begun_);
  const uint32_t since = static_cast<uint32_t>(HandlersBegun()) - at_begin;
  for (int signal = 1; signal <= kMostSignals; ++signal) {
    const uint32_t last =
        __atomic_load_n(&handler_counts.last[signal], __ATOMIC_RELAXED) - at_begin;
    if (last - 1 < since && sigismember(mask, signal) == 0) return true;
  }
  return false;
}

void HandlerBegins(int signal, bool restarts, void* context) {
  HandlerCounts& counts = handler_counts;
  // At once: another handler may come between.
  const uint64_t begun =
      __atomic_add_fetch(&counts.begun, 1 + (restarts ? 0 : kNotRestarting), __ATOMIC_RELAXED);
  __atomic_store_n(&counts.last[signal], static_cast<uint32_t>(begun), __ATOMIC_RELAXED);
  if (context == nullptr) return;
  auto* const at = ProgramCounterIn(context);
  const auto first = reinterpret_cast<uintptr_t>(xenloop_sleeping_begin);
  const auto end = reinterpret_cast<uintptr_t>(xenloop_sleeping_end);
  if (static_cast<uintptr_t>(*at) - first < end - first) {
    *at = static_cast<std::remove_reference_t<decltype(*at)>>(
        reinterpret_cast<uintptr_t>(xenloop_sleeping_back));
  }
}

long SleepingCall(uint64_t begun, long number, long a, long b, long c, long d, long e, long f) {
  const long call[7] = {number, a, b, c, d, e, f};
  return xenloop_sleeping_call(call, &handler_counts.begun, begun);
}

void PlantSignal(int signal) {
  BareWait::Forbid();
  __atomic_store_n(&planted_signal, signal, __ATOMIC_RELAXED);
}

void RaisePlanted() {
  const int signal = __atomic_exchange_n(&planted_signal, 0, __ATOMIC_RELAXED);
  if (signal != 0) sys::Call(SYS_tkill, static_cast<long>(CurrentTid()), signal);
}

}  // namespace xenloop

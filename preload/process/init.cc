// Start and end of the library in a process. The constructor reads the configuration and what a
// former program has left, and nothing more: no allocation, no descriptor, no thread, and no system
// call that the loader does not make as well, since the process may have inherited a filter. Until
// it has run, and where acceleration is off, every call passes through.
#include <sys/auxv.h>

#include "preload/libc/real.h"
#include "preload/libc/threads.h"
#include "preload/process/inheritance.h"
#include "preload/process/process.h"
#include "preload/settings/config.h"
#include "preload/side/bulletin.h"
#include "preload/side/self.h"

extern "C" {
// glibc 2.35 and later; absent elsewhere, then the processor is simply unknown.
// NOLINTNEXTLINE(readability-identifier-naming)
extern const ptrdiff_t __rseq_offset __attribute__((weak));
}

namespace xenloop {

ProcessState process_state;
__thread uint32_t cached_tid;

namespace {

__attribute__((constructor)) void Start(int, char**, char** environment) {
  if (!real::LibcIsGlibc()) return;  // musl, for one, hands a constructor no environment
  LoadConfig(environment, getauxval(AT_SECURE) != 0);
  threads::Find();
  const Reason rule = GetConfig().enabled ? RuleAgainstThisProgram() : Reason::kDisabled;
  if (rule != Reason::kNone) {
    process_state.pid = static_cast<int32_t>(CurrentTid());
    bulletin.program.store(rule, std::memory_order_relaxed);
    return;
  }
  if (&__rseq_offset != nullptr) process_state.rseq_offset = __rseq_offset;
  // The loader calls this in the first thread, whose id is the process's.
  process_state.pid = static_cast<int32_t>(CurrentTid());
  process_state.switches = GetConfig().switch_every != 0;
  InstallForkHandlers();
  process_state.ready = true;
  if (getauxval(AT_SECURE) == 0) AdoptFromFormerProgram();
}

__attribute__((destructor)) void End() { BeforeExit(); }

}  // namespace
}  // namespace xenloop

// Start and end of the library in a process. The constructor reads the configuration and nothing
// more: no allocation, no descriptor, no thread. Until it has run, and where acceleration is off,
// every call passes through.
#include <sched.h>
#include <sys/auxv.h>

#include "preload/process/inheritance.h"
#include "preload/process/process.h"
#include "preload/settings/config.h"
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
  LoadConfig(environment, getauxval(AT_SECURE) != 0);
  if (!GetConfig().enabled || RuleAgainstThisProgram() != Reason::kNone) return;
  cpu_set_t processors;
  CPU_ZERO(&processors);
  if (sys::Call(SYS_sched_getaffinity, 0, sizeof processors, reinterpret_cast<long>(&processors)) >
      0) {
    process_state.processors = static_cast<uint32_t>(CPU_COUNT(&processors));
  }
  if (&__rseq_offset != nullptr) process_state.rseq_offset = __rseq_offset;
  process_state.pid = sys::GetPid();
  process_state.switches = GetConfig().switch_every != 0;
  InstallForkHandlers();
  process_state.ready = true;
  if (getauxval(AT_SECURE) == 0) AdoptFromFormerProgram();
}

__attribute__((destructor)) void End() { BeforeExit(); }

}  // namespace
}  // namespace xenloop

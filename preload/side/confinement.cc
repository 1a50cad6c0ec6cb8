// See confinement.h.
#include "preload/side/confinement.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <atomic>

#include "channel/base/descriptor.h"
#include "channel/base/sys.h"
#include "preload/libc/program_memory.h"
#include "preload/side/agent_shared.h"
#include "preload/side/bulletin.h"
#include "preload/side/private_fd.h"
#include "preload/side/self.h"
#include "preload/side/stats.h"

namespace xenloop {
namespace {

constexpr int kMostLooks = 2;
int looks[kMostLooks] = {-1, -1};

int Open() {
  return static_cast<int>(sys::MakeDescriptor(
      SYS_openat, AT_FDCWD, sys::Word("/proc/thread-self/status"), O_RDONLY | O_CLOEXEC));
}

// The mode stands behind this word, at the beginning of a line; the file may be long (groups).
Filter Read(int fd) {
  constexpr char kWord[] = "\nSeccomp:\t";
  constexpr size_t kLength = sizeof kWord - 1;
  char text[256];
  size_t found = 0;
  for (ssize_t n; (n = sys::Read(fd, text, sizeof text)) > 0;) {
    for (ssize_t i = 0; i < n; ++i) {
      if (found == kLength) return text[i] == '0' ? Filter::kNone : Filter::kStands;
      found = text[i] == kWord[found] ? found + 1 : text[i] == kWord[0] ? 1 : 0;
    }
  }
  return Filter::kUnknown;
}

}  // namespace

Filter LookForFilter() {
  const long fd =
      sys::Call(SYS_openat, AT_FDCWD, sys::Word("/proc/thread-self/status"), O_RDONLY | O_CLOEXEC);
  // A root without /proc; a filter would have said something else.
  if (fd == -ENOENT) return Filter::kNone;
  if (fd < 0) return Filter::kUnknown;
  const Filter found = Read(static_cast<int>(fd));
  sys::Close(static_cast<int>(fd));
  return found;
}

void LookAtProgramMemory() {
  static std::atomic<bool> looked{false};
  if (looked.load(std::memory_order_relaxed) || looked.exchange(true)) return;
  // Under a tight limit the program may count on every number.
  if (sys::DescriptorLimit() >= sys::kFewestDescriptors && LookForFilter() == Filter::kNone)
    BelieveProgramMemory(false);
}

bool MayAskTheKernel() {
  LookAtProgramMemory();
  return process_state.ready && !HasPreparedLook() && !IsProgramMemoryBelieved();
}

void PrepareLooks() {
  for (int& fd : looks) {
    if (fd < 0) fd = MakePrivate(Open());
  }
}

bool IsPreparedLook(int fd) { return fd >= 0 && (fd == looks[0] || fd == looks[1]); }
bool HasPreparedLook() { return looks[0] >= 0 || looks[1] >= 0; }

Filter TakePreparedLook() {
  for (int& fd : looks) {
    if (fd < 0) continue;
    const Filter found = Read(fd);
    // Under a filter it stays open: to close it would be a call of ours.
    if (found == Filter::kNone) ClosePrivate(fd);
    fd = -1;
    return found;
  }
  return Filter::kUnknown;
}

void DropLooks() {
  for (int& fd : looks) {
    if (fd >= 0) ClosePrivate(fd);
    fd = -1;
  }
}

bool MayFollow() {
  if (process_state.ready) return true;
  if (!process_state.in_doubt) return false;
  Filter found = TakePreparedLook();
  if (found == Filter::kUnknown) found = LookForFilter();  // the parent's look, and it has ended
  process_state.in_doubt = false;
  process_state.sandboxed = found != Filter::kNone;
  if (process_state.sandboxed) return false;
  if (!process_state.bypassed) bulletin.program.store(Reason::kNone, std::memory_order_relaxed);
  ForgetStats();  // they have been written
  agent_shared.ending.store(Reason::kNone, std::memory_order_release);
  // As at a first socket (LookAtProgramMemory), which may have been long ago.
  BelieveProgramMemory(false);
  process_state.ready = true;
  return true;
}

}  // namespace xenloop

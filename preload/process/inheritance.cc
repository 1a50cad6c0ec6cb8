// See inheritance.h. Whoever holds a socket must be known before its bytes may leave TCP: within a
// family of forked processes the arena counts them, and an exec ends that knowledge. So the old
// program tells the new one, through discovery/handover.h, and so does the rest of the family when
// the last of them lets go.
#include "preload/process/inheritance.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "preload/settings/config.h"
#include "preload/side/each_side.h"
#include "preload/side/fd_table.h"
#include "preload/side/holders.h"
#include "preload/side/leaving.h"
#include "preload/side/self.h"
#include "preload/side/shadow.h"
#include "preload/side/stats.h"
#include "preload/socket/socket.h"

namespace xenloop {
namespace {

// What an exec will do to a side, so that it can be undone if the exec fails.
struct AtExec {
  uint32_t generation = 0;
  bool survives = false;
  bool ended = false;  // we have let go of it
};
AtExec at_exec[kMaxSides];

int32_t DescriptorsOf(const Side* side) {
  int32_t count = 0;
  EachDescriptor([&](int, const Side* here) { count += here == side ? 1 : 0; });
  return count;
}

bool IsAsAtExec(const Side* side) {
  return side->in_use.load(std::memory_order_acquire) != 0 &&
         side->generation.load(std::memory_order_relaxed) == at_exec[SlotOf(side)].generation;
}

// An epoll set that survives is unknown to the next program, and so is what it watches.
bool AnEpollSetSurvives() {
  for (int fd = 0; fd < FdTable::End(); fd = FdTable::Next(fd)) {
    if (FdTable::FindEpollSet(fd) != nullptr && SurvivesExec(fd)) return true;
  }
  return false;
}

bool MayBeAdopted(const Side* side) {
  return side->pinned.load(std::memory_order_relaxed) == 0 && AllHoldersAreKnown(side);
}

uint32_t SharedNow(Side* side) {
  return MayComeBack(side) || side->holders.load(std::memory_order_seq_cst) > 1 ? 1 : 0;
}

}  // namespace

FileId ProgramAt(int directory, const char* path, int flags) {
  struct stat file;
  if (!process_state.ready || FdTable::End() == 0 || path == nullptr || InBorrowedMemory() ||
      sys::Call(SYS_newfstatat, directory, sys::Word(path), sys::Word(&file),
                flags & (AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)) != 0) {
    return FileId{};
  }
  return FileId{file.st_dev, file.st_ino};
}

FileId ProgramInPath(const char* file) {
  if (!process_state.ready || FdTable::End() == 0 || file == nullptr) return FileId{};
  const char* folders = getenv("PATH");
  if (strchr(file, '/') != nullptr || folders == nullptr) return ProgramAt(AT_FDCWD, file, 0);
  while (*folders != '\0') {
    const size_t length = strcspn(folders, ":");
    char path[4096];
    const int n = length == 0 ? snprintf(path, sizeof path, "%s", file)
                              : snprintf(path, sizeof path, "%.*s/%s", static_cast<int>(length),
                                         folders, file);
    if (n > 0 && static_cast<size_t>(n) < sizeof path &&
        sys::Call(SYS_faccessat, AT_FDCWD, sys::Word(path), X_OK) == 0) {
      return ProgramAt(AT_FDCWD, path, 0);
    }
    folders += length + (folders[length] == ':' ? 1 : 0);
  }
  return FileId{};
}

bool SurvivesExec(int fd) {
  const long flags = sys::Call(SYS_fcntl, fd, F_GETFD);
  return flags >= 0 && (flags & FD_CLOEXEC) == 0;
}

void LeaveForNextProgram(const FileId& program) {
  const auto uid = static_cast<uid_t>(sys::Call(SYS_geteuid));
  const bool adoptable = program.inode != 0 && !AnEpollSetSurvives();
  Handover notes[kMostHandovers];
  size_t count = 0;
  EachSide([](int, Side* side) {
    at_exec[SlotOf(side)] = AtExec{side->generation.load(std::memory_order_relaxed)};
  });
  EachDescriptor([&](int fd, Side* side) {
    if (!SurvivesExec(fd)) return;
    AtExec& then = at_exec[SlotOf(side)];
    if (!then.survives) side->outside.fetch_add(1, std::memory_order_acq_rel);
    then.survives = true;
    if (!adoptable || !MayBeAdopted(side) || count == kMostHandovers) return;
    side->cookie.store(CookieOf(fd), std::memory_order_relaxed);
    side->handed_uid.store(uid, std::memory_order_relaxed);
    const uint64_t moment = HandoverMoment();
    side->handed_ns.store(moment, std::memory_order_seq_cst);
    // seq_cst: before the look at the holders in SharedNow; pairs with LetGo, which looks the other
    // way round. One of the two sees the other.
    side->handed_pid.store(process_state.pid, std::memory_order_seq_cst);
    Handover& note = notes[count++];
    note = Handover{};
    note.cookie = side->cookie.load(std::memory_order_relaxed);
    note.taker = program;
    note.fd = fd;
    note.left_ns = moment;
    note.shared = SharedNow(side);
    note.opening = static_cast<uint32_t>(side->opening.load(std::memory_order_relaxed));
  });
  EachSide([](int, Side* side) {
    AtExec& then = at_exec[SlotOf(side)];
    if (then.survives || side->holders.load(std::memory_order_relaxed) <= 1) return;
    if (!BeginLeaving(side)) return;  // it stays on TCP
    const int32_t handed = side->handed_pid.load(std::memory_order_seq_cst);
    // Who has got it would be told that nobody else has it, and the exec may fail: then we would
    // have it still. The same.
    if (handed != 0 && handed != process_state.pid) return EndLeaving(side);
    then.ended = true;
    side->references.fetch_sub(DescriptorsOf(side), std::memory_order_acq_rel);
    LetGo(side);  // its descriptors stay in the table for the case that the exec fails
  });
  if (count == 0) return;
  LeaveHandovers(GetConfig().runtime_dir, uid, process_state.pid, notes, count);
  bool changed = false;  // meanwhile, by somebody who did not find the notes yet
  for (size_t i = 0; i < count; ++i) {
    Side* const side = FdTable::FindSide(notes[i].fd);
    if (side == nullptr || notes[i].shared == 0 || SharedNow(side) != 0) continue;
    notes[i].shared = 0;
    changed = true;
  }
  if (changed) LeaveHandovers(GetConfig().runtime_dir, uid, process_state.pid, notes, count);
}

void TakeBackFromNextProgram() {
  bool noted = false;
  EachSide([&](int, Side* side) {
    if (!IsAsAtExec(side)) return;
    const AtExec& then = at_exec[SlotOf(side)];
    if (then.ended) {
      // Under the lock: who attaches it finds us on our way, or back.
      const LockScope scope(side->send.lock, CurrentTid());
      side->references.fetch_add(DescriptorsOf(side), std::memory_order_acq_rel);
      side->holders.fetch_add(1, std::memory_order_seq_cst);  // before nobody is leaving any more
      EndLeaving(side);
    }
    if (!then.survives) return;
    side->outside.fetch_sub(1, std::memory_order_acq_rel);
    int32_t us = process_state.pid;
    if (side->inherited.load(std::memory_order_relaxed) == 0 &&
        side->handed_pid.compare_exchange_strong(us, 0, std::memory_order_acq_rel))
      noted = true;
  });
  EndLeavingAll();
  // Freed meanwhile by the last of the others: an ordinary socket from now on.
  EachDescriptor([](int fd, Side* side) {
    if (!IsAsAtExec(side)) FdTable::Take(fd, side);
  });
  if (noted) {
    LeaveHandovers(GetConfig().runtime_dir, static_cast<uid_t>(sys::Call(SYS_geteuid)),
                   process_state.pid, nullptr, 0);
  }
}

void AdoptFromFormerProgram() {
  Handover notes[kMostHandovers];
  const uid_t uid = static_cast<uid_t>(getauxval(AT_EUID));
  const size_t count =
      TakeHandovers(GetConfig().runtime_dir, uid, process_state.pid, notes, kMostHandovers);
  if (count == 0) return;
  struct stat program;
  if (sys::Call(SYS_newfstatat, AT_FDCWD, sys::Word("/proc/self/exe"), sys::Word(&program), 0) != 0)
    return;
  for (size_t i = 0; i < count; ++i) {
    const Handover& note = notes[i];
    tcp_info info;
    if (note.taker.device != program.st_dev || note.taker.inode != program.st_ino ||
        note.cookie == 0 || CookieOf(note.fd) != note.cookie || !FdTable::InRange(note.fd) ||
        !FdTable::IsEmpty(note.fd) || TcpInfoOf(note.fd, &info) != 0) {
      continue;
    }
    Side* side = nullptr;
    for (size_t j = 0; j < i && side == nullptr; ++j) {
      Side* const other = notes[j].cookie == note.cookie ? FindSide(notes[j].fd) : nullptr;
      if (other != nullptr && CookieOf(notes[j].fd) == note.cookie) side = other;
    }
    if (side != nullptr) {
      side->references.fetch_add(1, std::memory_order_acq_rel);
      FdTable::SetSide(note.fd, side);
      continue;
    }
    if (!SocketAdopted(note.fd, note, process_state.pid, uid)) return;
  }
}

}  // namespace xenloop

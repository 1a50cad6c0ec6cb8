// Epoll sets that programs may have which we have started (ready/epoll_inherited.cc): does any
// still have one? Nothing tells of it, so we look, ever more seldom: at the descriptors of each
// process that is no older than the first of those programs, since whoever has a set of ours by
// inheritance is one of them or comes of one. The kernel says which descriptors are the same file
// (kcmp).
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "preload/agent/agent.h"
#include "preload/agent/agent_tasks.h"
#include "preload/agent/proc_files.h"
#include "preload/ready/epoll.h"
#include "preload/settings/config.h"
#include "preload/side/confinement.h"
#include "preload/side/mailbox.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

constexpr size_t kMostAtOnce = 16;
constexpr int kMostAncestors = 64;
// Others choose how many descriptors they have, and the agent has more to do: beyond that it looks
// no further, and says that it does not know.
constexpr int kMostLooks = 4096;
constexpr char kEpollFile[] = "anon_inode:[eventpoll]";

struct Process {
  uint32_t parent = 0;
  uint64_t started = 0;  // in ticks since the boot
};

// 0, or -errno.
int ReadProcess(uint32_t pid, Process* process) {
  constexpr int kParent = 4;  // the fields' numbers, as in proc(5)
  constexpr int kStarted = 22;
  char path[32];
  char text[1024];
  snprintf(path, sizeof path, "/proc/%u/stat", pid);
  const long length = ReadProc(path, text, sizeof text);
  if (length < 0) return static_cast<int>(length);
  const char* at = strrchr(text, ')');  // behind the name, which may hold anything
  if (length == 0 || at == nullptr) return -ESRCH;
  for (int field = 2; *at != '\0'; ++at) {
    if (*at != ' ') continue;
    ++field;
    if (field == kParent) process->parent = static_cast<uint32_t>(NumberAt(at + 1, 10));
    if (field == kStarted) process->started = NumberAt(at + 1, 10);
  }
  return 0;
}

bool HasEnded(long error) { return error == -ENOENT || error == -ESRCH; }

// It is we who cannot look now.
bool IsShortage(long error) { return error == -EMFILE || error == -ENFILE || error == -ENOMEM; }

bool ComesOfUs(uint32_t pid) {
  Process process;
  for (int i = 0; i < kMostAncestors && pid > 1 && ReadProcess(pid, &process) == 0; ++i) {
    pid = process.parent;
    if (pid == static_cast<uint32_t>(process_state.pid)) return true;
  }
  return false;
}

struct Question {
  InheritedSet sets[kMostAtOnce];
  bool held[kMostAtOnce];
  size_t count;
  int looks;  // at descriptors
  bool saw_us;
};

void HeldAll(Question& question) {
  for (bool& held : question.held) held = true;
}

// Another process's descriptor, by one of its threads; those that it has of our sets count as held.
void Compare(Question& question, uint32_t tid, uint32_t fd) {
  char path[48];
  char target[sizeof kEpollFile];
  snprintf(path, sizeof path, "/proc/%u/fd/%u", tid, fd);
  const long length =
      sys::Call(SYS_readlinkat, AT_FDCWD, sys::Word(path), sys::Word(target), sizeof target);
  if (length != static_cast<long>(sizeof kEpollFile - 1) ||
      memcmp(target, kEpollFile, sizeof kEpollFile - 1) != 0)
    return;
  for (size_t i = 0; i < question.count; ++i) {
    constexpr long kFile = 0;  // KCMP_FILE
    const long order = sys::Call(SYS_kcmp, CurrentTid(), static_cast<long>(tid), kFile,
                                 question.sets[i].epfd, static_cast<long>(fd));
    // What the kernel does not tell counts as the same, but for what is gone meanwhile.
    if (order == 0 || (order < 0 && order != -ESRCH && order != -EBADF)) question.held[i] = true;
  }
}

// What a thread has: a process's number means its first thread, which has nothing any more when it
// has ended before the others. How many there were, or -errno.
long LookAtThread(Question& question, uint32_t tid) {
  char folder[32];
  snprintf(folder, sizeof folder, "/proc/%u/fd", tid);
  long seen = 0;
  const long looked = EachNumberIn(folder, [&question, &seen, tid](uint32_t fd) {
    Compare(question, tid, fd);
    ++seen;
    return ++question.looks >= kMostLooks;
  });
  return looked < 0 ? looked : seen;
}

void LookAtProcess(Question& question, uint32_t pid, uint64_t since) {
  if (pid == static_cast<uint32_t>(process_state.pid)) {
    question.saw_us = true;
    return;
  }
  Process process;
  const int read = ReadProcess(pid, &process);
  if (IsShortage(read)) return HeldAll(question);
  if (read != 0 || process.started < since) return;
  long looked = LookAtThread(question, pid);
  if (looked == 0) {
    char threads[32];
    snprintf(threads, sizeof threads, "/proc/%u/task", pid);
    const long listed = EachNumberIn(threads, [&question, &looked](uint32_t tid) {
      looked = LookAtThread(question, tid);
      return (looked != 0 && !HasEnded(looked)) || ++question.looks >= kMostLooks;
    });
    if (listed < 0) looked = listed;
  }
  // A program with rights of its own, which does not show what it has: if it is one of ours.
  if (IsShortage(looked) || (looked < 0 && !HasEnded(looked) && ComesOfUs(pid))) HeldAll(question);
}

// A folder that is empty, or that of other processes (a chroot, a namespace of processes): who has
// the sets does not stand there.
bool ProcIsOurs() {
  char self[16] = {};
  const long length = sys::Call(SYS_readlinkat, AT_FDCWD, sys::Word("/proc/self"), sys::Word(self),
                                sizeof self - 1);
  return length > 0 && NumberAt(self, 10) == static_cast<uint64_t>(process_state.pid);
}

void LookAtAllProcesses(Question& question) {
  uint64_t since = ~0ull;
  question.saw_us = false;
  for (size_t i = 0; i < question.count; ++i) {
    if (question.sets[i].since < since) since = question.sets[i].since;
  }
  const long looked = EachNumberIn("/proc", [&question, since](uint32_t pid) {
    LookAtProcess(question, pid, since);
    return question.looks >= kMostLooks;
  });
  if (looked < 0 || !question.saw_us || question.looks >= kMostLooks) HeldAll(question);
}

// It may go by FIFO again. Whether it would be this end that offers, or the other: the other does
// not know.
void Welcome(Side* side) {
  side->next_attempt.store(0, std::memory_order_relaxed);
  if (GetConfig().test_points || !IsOurs(side)) return;
  const uint32_t slot = SlotOf(side);
  AgentSide& note = agent.sides[slot];
  if (note.stage != Stage::kPublished) return;  // it is offered when it is hot
  note.seeks = true;
  Arena()->wanted.Add(slot);
}

}  // namespace

void AwaitInheritedSets() {
  if (agent.awaits_inherited) return;
  agent.awaits_inherited = true;
  agent.timers.StartWithin(Timer::kInherited, AgentNs(), 0);
}

uint64_t LookAtInheritedSets(uint64_t now) {
  Question question{};
  uint64_t next = kNotAgain;
  question.count = InheritedSetsDue(now, question.sets, kMostAtOnce, &next);
  // Not all of these calls were tried under a filter.
  if (question.count != 0 && (LookForFilterAsOurs() != Filter::kNone || !ProcIsOurs()))
    HeldAll(question);
  // Twice: one that the first look came too early for may have been made by one that it came too
  // late for.
  for (int look = 0; look < 2 && question.count != 0; ++look) LookAtAllProcesses(question);
  for (size_t i = 0; i < question.count; ++i) {
    if (!question.held[i]) EndInheritance(question.sets[i], Welcome);
  }
  if (question.count != 0) Poke(process_state.pid);
  agent.awaits_inherited = next != kNotAgain;
  return next == kNotAgain ? kNotAgain : next - now;
}

}  // namespace xenloop

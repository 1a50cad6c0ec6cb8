// Sets in which several processes of a family wait: who has made one, and children that have it
// from him. The kernel wakes one sleeper for a bell, and it may be one to whom the bell says
// nothing. So whoever waits in a set of another says so, in memory that they share, and its owner
// then has nothing in it that only he understands: what is registered there goes by TCP.
#include "preload/ready/epoll_registrations.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

uint64_t KeyOf(const EpollSet* set) {
  const auto place = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(set) / sizeof *set);
  return static_cast<uint64_t>(static_cast<uint32_t>(set->owner_pid)) << 32 |
         static_cast<uint32_t>(place << 12 | (set->serial & 0xfff));
}

// Since the owner has looked last.
bool HasBecomeShared(EpollSet* set) {
  const SideArena* const arena = process_state.forks ? Arena() : nullptr;
  if (arena == nullptr) return false;
  const uint32_t changes = arena->shared_set_changes.load(std::memory_order_seq_cst);
  if (changes == set->shared_set_changes.load(std::memory_order_relaxed)) return false;
  set->shared_set_changes.store(changes, std::memory_order_relaxed);
  return IsShared(set);
}

}  // namespace

void EpollBeforeFork() {
  if (!process_state.ready || EpollSetAt(0) == nullptr) return;
  HasArena();
  // The child must know our tags for what they are, those of later registrations as well.
  LockScope scope(registrations_lock, CurrentTid());
  HasRegistrations();
}

void NoteShared(EpollSet* set) {
  SideArena* const arena = Arena();
  if (set->noted_shared || arena == nullptr) return;
  set->noted_shared = true;
  if (!IsShared(set)) {
    bool noted = false;
    for (uint32_t i = 0; i < kMostSharedSets && !noted; ++i) {
      uint64_t none = 0;
      noted = arena->shared_sets[i].compare_exchange_strong(none, KeyOf(set),
                                                            std::memory_order_seq_cst);
    }
  }  // no room: who finds all places taken takes his own for shared
  arena->shared_set_changes.fetch_add(1, std::memory_order_seq_cst);
}

void ForgetShared(const EpollSet* set) {
  SideArena* const arena = Arena();
  if (arena == nullptr || arena->shared_set_changes.load(std::memory_order_seq_cst) == 0) return;
  for (auto& place : arena->shared_sets) {
    uint64_t key = KeyOf(set);
    place.compare_exchange_strong(key, 0, std::memory_order_seq_cst);
  }
}

bool IsShared(const EpollSet* set) {
  const SideArena* const arena = process_state.forks ? Arena() : nullptr;
  if (arena == nullptr || arena->shared_set_changes.load(std::memory_order_seq_cst) == 0)
    return false;
  bool full = true;
  for (const auto& place : arena->shared_sets) {
    const uint64_t found = place.load(std::memory_order_seq_cst);
    if (found == KeyOf(set)) return true;
    full = full && found != 0;
  }
  return full;
}

void BeforeWaitIn(EpollSet* set) {
  if (set->owner_pid != process_state.pid) {
    EpollSetIsShared(set);
  } else if (HasBecomeShared(set)) {
    EpollSetIsWatchedBlindly(set);
  }
}

}  // namespace xenloop

// Sets in which several processes of a family wait: who has made one, and children that have it
// from him. The kernel wakes one sleeper for a bell, and it may be one to whom the bell says
// nothing. So whoever waits in a set of another says so, in a word that both share, and its owner
// then has nothing in it that only he understands: what is registered there goes by TCP.
#include <sys/mman.h>

#include "preload/ready/epoll_lazy.h"
#include "preload/ready/epoll_registrations.h"
#include "preload/side/self.h"

namespace xenloop {
namespace {

// The words of this process's own sets, a page a block of them, made before a fork. They end with
// the last process that has them; a child makes its own for its own sets.
using Words = std::atomic<uint32_t>;
Words* words_of_block[kMostSets / kSetsABlock] ABSL_GUARDED_BY(registrations_lock);

Words* WordOf(uint32_t number) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registrations_lock) {
  Words*& words = words_of_block[number / kSetsABlock];
  if (words == nullptr) {
    const long memory = sys::Call(SYS_mmap, 0, sizeof(Words) * kSetsABlock, PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory < 0 && memory > -4096) return nullptr;
    words = reinterpret_cast<Words*>(memory);
  }
  return &words[number % kSetsABlock];
}

// Gives a word to each set of ours that has none; false: there is no memory.
bool GiveWords() {
  const uint32_t tid = CurrentTid();
  const RegistrationsScope scope(tid);
  // The child must know our tags for what they are, those of later registrations as well.
  HasRegistrations();
  for (uint32_t i = 0; EpollSet* const set = EpollSetAt(i); ++i) {
    if (!set->in_use || set->owner_pid != process_state.pid || set->waited_elsewhere != nullptr)
      continue;
    const LockScope inner(set->lock, tid);
    // From here on the kernel has what the child's copy says.
    for (uint32_t link = set->first_converted; link != 0;
         link = RegistrationAt(link - 1)->next_in_set)
      Narrow(set, RegistrationAt(link - 1), RegistrationAt(link - 1)->asked);
    set->waited_elsewhere = WordOf(i);
    if (set->waited_elsewhere == nullptr) return false;
  }
  return true;
}

}  // namespace

void EpollBeforeFork() {
  if (!process_state.ready || EpollSetAt(0) == nullptr || GiveWords()) return;
  for (uint32_t i = 0; EpollSet* const set = EpollSetAt(i); ++i) {
    if (set->owner_pid == process_state.pid && set->waited_elsewhere == nullptr)
      EpollSetIsWatchedBlindly(set);  // nobody could say that he waits in it
  }
}

void SharedForkedChild() ABSL_NO_THREAD_SAFETY_ANALYSIS {  // there is but this thread
  for (Words*& words : words_of_block) words = nullptr;
}

void NoteShared(EpollSet* set) {
  Words* const word = set->waited_elsewhere;
  if (word == nullptr) return;
  // seq_cst: before the looks at what is on FIFOs; the owner looks at it before it converts. A set
  // that its owner has closed long ago must not take the word from the next one of its place.
  uint32_t noted = word->load(std::memory_order_seq_cst);
  while (noted < set->serial &&
         !word->compare_exchange_weak(noted, set->serial, std::memory_order_seq_cst)) {
  }
}

bool IsShared(const EpollSet* set) {
  return set->waited_elsewhere != nullptr &&
         set->waited_elsewhere->load(std::memory_order_seq_cst) == set->serial;
}

void BeforeWaitIn(EpollSet* set) {
  if (set->owner_pid != process_state.pid) {
    EpollSetIsShared(set);
  } else if (IsShared(set)) {
    EpollSetIsWatchedBlindly(set);
  }
}

}  // namespace xenloop

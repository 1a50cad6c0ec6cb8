// See side.h.
#include "preload/side/side.h"

#include <sys/mman.h>

#include <new>

#include "channel/base/sys.h"

namespace xenloop {
namespace {

std::atomic<SideArena*> arena{nullptr};

// The tables and FIFOs together stay below this share of a limited address space: the program must
// not run out of what it counts on.
bool AddressSpaceIsAmple() {
  constexpr uint64_t kAmple = 2ull << 30;
  uint64_t limit[2] = {0, 0};
  constexpr long kAddressSpace = 9;  // RLIMIT_AS
  return sys::Call(SYS_prlimit64, 0, kAddressSpace, 0, reinterpret_cast<long>(limit)) != 0 ||
         limit[0] >= kAmple;
}

// A late comer will end its count; one that was left by a jump in the wrong instant never will.
bool IsHaunted(const Side& side) {
  return side.send.kernel_users.Any() || side.receive.kernel_users.Any() || side.send.lock.Held() ||
         side.receive.lock.Held() || side.pairing_lock.Held();
}

SideArena* MakeArena() {
  if (!AddressSpaceIsAmple()) return nullptr;
  const long memory = sys::Call(SYS_mmap, 0, sizeof(SideArena), PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory < 0 && memory > -4096) return nullptr;
  auto* made = reinterpret_cast<SideArena*>(memory);
  SideArena* expected = nullptr;
  if (arena.compare_exchange_strong(expected, made, std::memory_order_acq_rel)) return made;
  sys::Call(SYS_munmap, memory, sizeof(SideArena));
  return expected;
}

// A new life of the slot, which nobody else has yet. In use last: who comes late from a former life
// looks at that.
void Begin(Side* side) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  const uint32_t generation = side->generation.load(std::memory_order_relaxed) + 1;
  side->in_use.store(0, std::memory_order_relaxed);
  side->fd.store(-1, std::memory_order_relaxed);
  side->owner_pid.store(0, std::memory_order_relaxed);
  side->send.Renew();
  side->receive.Renew();
  side->shutdown_pending.store(0, std::memory_order_relaxed);
  side->shut.store(0, std::memory_order_relaxed);
  side->kept.store(0, std::memory_order_relaxed);
  side->nonblocking.store(0, std::memory_order_relaxed);
  side->receive_low_water.store(1, std::memory_order_relaxed);
  side->tells_bytes_left.store(0, std::memory_order_relaxed);
  side->receive_timeout_us.store(0, std::memory_order_relaxed);
  side->send_timeout_us.store(0, std::memory_order_relaxed);
  side->held = {};
  side->last_sent = side->last_received = {};
  side->operations.store(0, std::memory_order_relaxed);
  side->next_attempt.store(0, std::memory_order_relaxed);
  side->pinned.store(0, std::memory_order_relaxed);
  side->options_asked.store(0, std::memory_order_relaxed);
  side->forced.store(0, std::memory_order_relaxed);
  side->awaited.store(0, std::memory_order_relaxed);
  side->attached.store(0, std::memory_order_relaxed);
  side->opening.store(Opening::kNone, std::memory_order_relaxed);
  side->blocked_calls.store(0, std::memory_order_relaxed);
  side->blocked_sends.store(0, std::memory_order_relaxed);
  side->orphaned.store(0, std::memory_order_relaxed);
  side->lingering_fd.store(-1, std::memory_order_relaxed);
  side->reason.store(Reason::kNotHotYet, std::memory_order_relaxed);
  side->upgrades.store(0, std::memory_order_relaxed);
  side->fallbacks.store(0, std::memory_order_relaxed);
  side->talk.store(0, std::memory_order_relaxed);
  side->both_here.store(0, std::memory_order_relaxed);
  side->spin_history.store(0, std::memory_order_relaxed);
  side->bell.store(kAnyBell, std::memory_order_relaxed);
  side->told_bell.store(kAnyBell, std::memory_order_relaxed);
  side->polled.store(0, std::memory_order_relaxed);
  side->lent.store(0, std::memory_order_relaxed);
  side->pairing.running.store(0, std::memory_order_relaxed);
  side->pair.store(0, std::memory_order_relaxed);
  side->queue.store(0, std::memory_order_relaxed);
  side->options_set.store(0, std::memory_order_relaxed);
  side->outside.store(0, std::memory_order_relaxed);
  side->handed_pid.store(0, std::memory_order_relaxed);
  side->inherited.store(0, std::memory_order_relaxed);
  side->leaving.store(0, std::memory_order_relaxed);
  side->unseen_pid.store(0, std::memory_order_relaxed);
  side->forked_pid.store(0, std::memory_order_relaxed);
  side->generation.store(generation, std::memory_order_relaxed);
  side->references.store(1, std::memory_order_relaxed);
  side->holders.store(1, std::memory_order_relaxed);
  side->in_use.store(1, std::memory_order_release);
}

}  // namespace

SideArena* Arena() { return arena.load(std::memory_order_acquire); }
bool HasArena() { return Arena() != nullptr || MakeArena() != nullptr; }

Side* AllocateSide() {
  SideArena* a = Arena();
  if (a == nullptr && (a = MakeArena()) == nullptr) return nullptr;
  // First fit from the lowest word that may have room: keeps the touched part of the arena small.
  for (uint32_t w = a->first_free_word.load(std::memory_order_relaxed); w < kSideWords; ++w) {
    uint64_t word = a->used.words[w].load(std::memory_order_relaxed);
    uint64_t haunted = 0;  // still counted or locked by a call of a former life
    while ((word | haunted) != ~0ull) {
      const uint32_t bit = static_cast<uint32_t>(__builtin_ctzll(~(word | haunted)));
      if (IsHaunted(a->sides[w * 64 + bit])) {
        haunted |= 1ull << bit;
        continue;
      }
      if (!a->used.words[w].compare_exchange_weak(word, word | (1ull << bit),
                                                  std::memory_order_acq_rel))
        continue;
      Side* side = &a->sides[w * 64 + bit];
      Begin(side);
      return side;
    }
    uint32_t expected = w;
    a->first_free_word.compare_exchange_strong(expected, w + 1, std::memory_order_relaxed);
  }
  a->first_free_word.store(0, std::memory_order_relaxed);
  return nullptr;
}

void FreeSide(Side* side) {
  SideArena* a = Arena();
  const uint32_t slot = SlotOf(side);
  side->in_use.store(0, std::memory_order_release);
  a->used.words[slot / 64].fetch_and(~(1ull << (slot % 64)), std::memory_order_acq_rel);
  uint32_t first = a->first_free_word.load(std::memory_order_relaxed);
  while (slot / 64 < first &&
         !a->first_free_word.compare_exchange_weak(first, slot / 64, std::memory_order_relaxed)) {
  }
}

}  // namespace xenloop

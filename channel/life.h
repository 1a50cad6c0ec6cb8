// The life word of a parked connection: a kernel connection that carries one connection of a
// program after the other over the same pair of FIFOs. Decides what a value of the word means and
// which value may follow which. What an end does with it stands in parked_end.h; channel/PARKING.md
// has the whole.
//
//     PARKED --claim--> CLAIMED --queue--> LIVE, waiting --accept--> LIVE --both closed--> PARKED
//     any --doubt--> DEAD, for good
//
// Every change is one compare-and-swap (DEAD: one fetch_or), so that whoever is killed leaves a
// word that means something. The ends of the two directions are bits of it, not indices: when the
// bit is seen, the producer's index stands.
#pragma once

#include <atomic>
#include <cstdint>

namespace xenloop {

enum class LifeState : uint8_t {
  kParked = 0,   // between two lives; also before the first
  kClaimed = 1,  // the client prepares the FIFOs
  kLive = 2,
  kDead = 3,  // no life follows. All ones, as memory out of reach reads, is this, too
};
enum class Role : uint8_t { kClient = 0, kServer = 1 };

inline constexpr Role Other(Role role) {
  return role == Role::kClient ? Role::kServer : Role::kClient;
}

// One value of the word.
struct LifeWord {
  static constexpr uint64_t kStateMask = 3;
  static constexpr uint64_t kWaiting = 4;  // to be accepted
  static constexpr uint64_t kLast = 8;     // closed really: no life follows this one
  static constexpr int kLifeShift = 8;
  static constexpr uint64_t kOutOfReach = ~uint64_t{0};

  uint64_t bits = 0;

  static constexpr uint64_t Finished(Role role) { return 16ull << static_cast<int>(role); }
  static constexpr uint64_t Closed(Role role) { return 64ull << static_cast<int>(role); }
  static constexpr LifeWord Of(uint64_t life, LifeState state, uint64_t flags = 0) {
    return LifeWord{life << kLifeShift | flags | static_cast<uint64_t>(state)};
  }

  constexpr LifeState State() const { return static_cast<LifeState>(bits & kStateMask); }
  constexpr uint64_t Life() const { return bits >> kLifeShift; }
  constexpr bool Has(uint64_t flags) const { return (bits & flags) != 0; }
  constexpr bool Waiting() const { return Has(kWaiting) && bits != kOutOfReach; }
  constexpr LifeWord With(uint64_t flags) const { return LifeWord{bits | flags}; }
  constexpr LifeWord Without(uint64_t flags) const { return LifeWord{bits & ~flags}; }
  constexpr LifeWord Dead() const { return LifeWord{bits | kStateMask}; }
  constexpr bool operator==(const LifeWord& other) const { return bits == other.bits; }
};

// The word in the pair's memory. The other end may write any value at any time: nothing is done
// with one that has not been loaded once and checked.
class SharedLifeWord {
 public:
  // seq_cst, here and in Change: a send publishes its bytes and then looks at the word, a close
  // changes the word and then looks at the bytes; one of the two sees the other.
  LifeWord Load() const { return LifeWord{bits_.load(std::memory_order_seq_cst)}; }
  // `from` becomes what is there if it is not what was expected.
  bool Change(LifeWord& from, LifeWord to) {
    return bits_.compare_exchange_strong(from.bits, to.bits, std::memory_order_seq_cst);
  }
  LifeWord End() {
    return LifeWord{bits_.fetch_or(LifeWord::kStateMask, std::memory_order_seq_cst)}.Dead();
  }

 private:
  std::atomic<uint64_t> bits_;
};
static_assert(sizeof(SharedLifeWord) == 8);

// An honest peer changes the word a few times in a life; one that never lets it stand is not waited
// for.
inline constexpr int kMostLifeChanges = 64;

}  // namespace xenloop

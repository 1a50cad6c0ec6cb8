// What both simulations have in common: choices from a seed, and how a check ends a run.
#pragma once

#include <cstdint>
#include <stdexcept>

namespace xenloop::simulation {

class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Random {
 public:
  // Mixed first: a state that the step's own constant separates from the next seed's would give
  // every seed the same sequence, begun one draw later.
  explicit Random(uint64_t seed) : state_(Mix(Mix(seed + 0x2545f4914f6cdd1dull))) {}
  uint64_t Next() { return Mix(state_ += 0x9e3779b97f4a7c15ull); }
  uint32_t Below(uint32_t n) { return static_cast<uint32_t>((Next() >> 32) * n >> 32); }
  bool OneIn(uint32_t n) { return Below(n) == 0; }

 private:
  static uint64_t Mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }

  uint64_t state_;
};

}  // namespace xenloop::simulation

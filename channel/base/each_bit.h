// The numbers of the bits of a mask, from the lowest on: a queue is looked at several times for
// each datagram, and most of its slots are free.
#pragma once

#include <cstdint>

namespace xenloop {

struct EachBit {
  uint32_t mask;
  struct At {
    uint32_t left;
    int operator*() const { return __builtin_ctz(left); }
    At& operator++() {
      left &= left - 1;
      return *this;
    }
    bool operator!=(const At& other) const { return left != other.left; }
  };
  At begin() const { return At{mask}; }
  static At end() { return At{0}; }
};

}  // namespace xenloop

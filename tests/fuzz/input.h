// A fuzzer's bytes as a sequence of choices, and the check that ends a run. An input that has been
// used up answers zero for ever, so every prefix of an input is an input.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

// Not assert: the properties hold in release builds too.
#define XENLOOP_REQUIRE(condition)                                              \
  do {                                                                          \
    if (!(condition)) {                                                         \
      fprintf(stderr, "%s:%d: violated: %s\n", __FILE__, __LINE__, #condition); \
      abort();                                                                  \
    }                                                                           \
  } while (false)

namespace xenloop::fuzz {

class Input {
 public:
  Input(const uint8_t* bytes, size_t size) : bytes_(bytes), left_(size) {}

  bool Empty() const { return left_ == 0; }
  uint8_t Byte() {
    uint8_t byte = 0;
    Take(&byte, 1);
    return byte;
  }
  uint16_t Short() {
    uint16_t value = 0;
    Take(&value, sizeof value);
    return value;
  }
  uint64_t Word() {
    uint64_t value = 0;
    Take(&value, sizeof value);
    return value;
  }
  // A number below n (n > 0, at most 65536).
  uint32_t Below(uint32_t n) { return (n <= 256 ? Byte() : Short()) % n; }
  bool OneIn(uint32_t n) { return Below(n) == n - 1; }
  // At most `size` bytes into memory of the caller; the rest of it stays as it is.
  size_t Take(void* to, size_t size) {
    const size_t n = size < left_ ? size : left_;
    if (n > 0) memcpy(to, bytes_, n);
    bytes_ += n;
    left_ -= n;
    return n;
  }
  std::string Rest() {
    std::string rest(left_, '\0');
    Take(rest.data(), left_);
    return rest;
  }

 private:
  const uint8_t* bytes_;
  size_t left_;
};

}  // namespace xenloop::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size);

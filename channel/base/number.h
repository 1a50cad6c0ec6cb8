// Numbers in the texts of /proc and /sys. Not by strtoul: newer headers make that a function which
// older C libraries do not have.
#pragma once

#include <cstdint>

namespace xenloop {

// The number that stands at `*text`, behind spaces; `*text` moves behind it. Nothing there: 0, and
// `*text` stands at what is there instead. What does not fit is cut off.
inline uint64_t ReadNumber(const char** text, unsigned base) {
  while (**text == ' ' || **text == '\t') ++*text;
  uint64_t number = 0;
  for (;; ++*text) {
    const char c = **text;
    unsigned digit = base;
    if (c >= '0' && c <= '9') digit = static_cast<unsigned>(c - '0');
    if (c >= 'a' && c <= 'f') digit = static_cast<unsigned>(c - 'a') + 10;
    if (digit >= base) return number;
    number = number * base + digit;
  }
}
inline uint64_t NumberAt(const char* text, unsigned base) { return ReadNumber(&text, base); }

}  // namespace xenloop

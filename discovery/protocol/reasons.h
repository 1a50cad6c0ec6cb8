// Why something is not accelerated, as one value (reasons.def): what streams carry, statistics
// count, and tools show and explain. Header only, for the library and for tools.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace xenloop {

enum class Reason : uint8_t {
  kNone,
#define REASON(name, words, lasts, remedy) name,
#include "discovery/protocol/reasons.def"
#undef REASON
};

enum class ReasonLasts : uint8_t {
  kForGood,     // this connection
  kProgram,     // for this run of the program: all its connections, or those that a rule names
  kOver,        // a state that ends by itself or by somebody's doing
  kTriedAgain,  // as the connection goes on
  kCall         // and then tried again
};

namespace reasons {

// One string after the other, and where each begins: an array of pointers would have to be
// relocated at the start of every program.
struct Words {
  char kNone[1];
#define REASON(name, words, lasts, remedy) char name[sizeof(words)];
#include "discovery/protocol/reasons.def"
#undef REASON
};
inline constexpr Words kWords = {
    "",
#define REASON(name, words, lasts, remedy) words,
#include "discovery/protocol/reasons.def"
#undef REASON
};
inline constexpr uint16_t kWordsAt[] = {
    0,
#define REASON(name, words, lasts, remedy) offsetof(Words, name),
#include "discovery/protocol/reasons.def"
#undef REASON
};

}  // namespace reasons

// Reasons are numbered without gaps from kNone, which is none of them.
inline constexpr size_t kReasonCount = sizeof reasons::kWordsAt / sizeof reasons::kWordsAt[0];

// The words for it, as a person reads them; empty for kNone. A literal.
inline const char* ReasonText(Reason reason) {
  const auto number = static_cast<size_t>(reason);
  return reinterpret_cast<const char*>(&reasons::kWords) +
         (number < kReasonCount ? reasons::kWordsAt[number] : 0);
}

// Until when it holds.
inline ReasonLasts ReasonDuration(Reason reason) {
  switch (reason) {
#define REASON(name, words, lasts, remedy) \
  case Reason::name:                       \
    return ReasonLasts::lasts;
#include "discovery/protocol/reasons.def"
#undef REASON
    case Reason::kNone:
      break;
  }
  return ReasonLasts::kTriedAgain;
}

inline const char* ReasonUntil(Reason reason) {
  if (reason == Reason::kNone) return "";
  switch (ReasonDuration(reason)) {
    case ReasonLasts::kForGood:
      return "for good";
    case ReasonLasts::kProgram:
      return "until the program is started again";
    case ReasonLasts::kOver:
      return "until that is over";
    case ReasonLasts::kTriedAgain:
      return "until tried again";
    case ReasonLasts::kCall:
      return "this call only";
  }
  return "";
}

// What a person can do about it; empty for kNone.
inline const char* ReasonRemedy(Reason reason) {
  switch (reason) {
#define REASON(name, words, lasts, remedy) \
  case Reason::name:                       \
    return remedy;
#include "discovery/protocol/reasons.def"
#undef REASON
    case Reason::kNone:
      break;
  }
  return "";
}

// The reason with exactly these words, as an agent or a file of statistics says them; kNone: none
// of this version's.
inline Reason ReasonWithText(const char* words) {
  for (size_t number = 1; number < kReasonCount; ++number) {
    const auto reason = static_cast<Reason>(number);
    if (std::strcmp(ReasonText(reason), words) == 0) return reason;
  }
  return Reason::kNone;
}

}  // namespace xenloop

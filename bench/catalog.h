// What is measured, in which unit, and what is wanted of it. The goals are those of the project's
// speed table; a goal compares a carrier with another one of the same run or with a fixed bound.
#pragma once

#include <string>
#include <vector>

namespace xenloop::bench {

struct Goal {
  enum class Kind {
    kTimesAsGoodAs,  // subject is at least `bound` times as good as `other`
    kBelow,          // subject's value is below `bound`
    kAddedAtMost,    // subject's value minus that of `other` is at most `bound`
    kNoneOf,         // subject's extra figure `other` is 0
    kAtLeast,        // subject's extra figure `other` is at least `bound`
    kAtMost,         // subject's extra figure `other` is at most `bound`
  };
  bool must = true;  // false: aimed at
  std::string text;
  Kind kind = Kind::kTimesAsGoodAs;
  std::string subject;
  std::string other;
  double bound = 0;
};

struct CaseInfo {
  std::string id;
  std::string title;
  std::string unit;
  bool lower_is_better = false;
  // Its bytes should go by FIFO: otherwise the figure says nothing about the library.
  bool accelerated = true;
  std::string setup;  // sizes and pinning, for the reader of the table
  std::vector<Goal> goals;
  bool has_ratios = true;  // false: "times as good as TCP" would mean nothing
};

// All cases, in the order of the report.
const std::vector<CaseInfo>& Catalog();
// A case that is not in the catalogue has its id as its title.
CaseInfo FindCase(const std::string& id);

// A case "NAMEsweep-SIZE" is a line of one table and a point of one curve.
std::string SweepOf(const std::string& id);      // "NAMEsweep-", or "" for other cases
std::string SweepSizeOf(const std::string& id);  // "SIZE"

// Sizes of the message-size sweep on one machine.
inline constexpr int kSweepSizes[] = {64, 256, 1024, 4096, 16384, 65536, 262144, 1048576};

}  // namespace xenloop::bench

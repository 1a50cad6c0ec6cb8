// The measurements of xenloop-bench, each over its carriers in turn (A B C A B C ...), so that
// whatever else the machine does falls on all of them alike.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/pair.h"
#include "bench/sample.h"

namespace xenloop::bench {

using SampleSink = std::function<void(const Sample&)>;

struct CaseGroup {
  std::string name;  // as given to --only
  std::string about;
  void (*run)(const Setup& setup, const SampleSink& sink);
  bool only_by_name = false;  // not part of a whole run
};

const std::vector<CaseGroup>& CaseGroups();

}  // namespace xenloop::bench

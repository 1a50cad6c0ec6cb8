// Which cores a script may use; see script_parts.h.
#include "bench/script_parts.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "bench/machine.h"

namespace xenloop::bench {

absl::StatusOr<std::string> RunScriptPart(const std::string& command,
                                          const std::vector<std::string>& arguments) {
  if (command == "cores" && arguments.empty()) {
    return absl::StrCat(absl::StrJoin(TwoCores(), " "), "\n");
  }
  return absl::InvalidArgumentError(absl::StrCat("cannot do \"", command, "\"; see --help"));
}

}  // namespace xenloop::bench

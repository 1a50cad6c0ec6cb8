// The texts of --help, written like manual pages. The manual page xenloop.1 says the same at
// length.

#pragma once

#include "absl/strings/string_view.h"

namespace xenloop::tools {

// For a subcommand, or the overview if `command` is empty or unknown.
const char* HelpText(absl::string_view command);

}  // namespace xenloop::tools

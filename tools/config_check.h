// The tools' parser of /etc/xenloop.conf and of XENLOOP_* values: which keys exist, what a value
// of each may look like, and what is wrong in a file, by line. It judges; it applies nothing.

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "preload/settings/rules.h"

namespace xenloop::tools {

struct ConfigSetting {
  int line = 0;
  std::string key;
  std::string value;
};

struct ConfigProblem {
  int line = 0;  // 0: the file as a whole
  std::string text;
};

struct ConfigFile {
  bool exists = false;
  std::vector<ConfigSetting> settings;  // only the well-formed ones
  std::vector<ConfigProblem> problems;
  Rules rules;  // who and what is accelerated

  // The last well-formed setting of `key`.
  std::optional<std::string> Value(absl::string_view key) const;
};

// Grammar: a line is blank or `key = value`; a '#' ends it wherever it stands.
ConfigFile ParseConfig(absl::string_view text);
// A missing file is an empty configuration; an unreadable one is a problem with line 0.
ConfigFile ReadConfig(const std::string& path);

// The words for yes and no; nothing for any other.
std::optional<bool> OnOrOff(absl::string_view value);

// What is wrong with `value` for `key` (a lower-case key of the file), or nothing.
std::optional<std::string> ProblemOfValue(absl::string_view key, absl::string_view value);

// The key of the file that means the same as an environment variable: XENLOOP is "enabled",
// XENLOOP_SPIN_US is "spin_us"; anything else is nothing.
std::optional<std::string> KeyOfVariable(absl::string_view variable);
bool IsKnownKey(absl::string_view key);

}  // namespace xenloop::tools

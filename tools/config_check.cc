// The checks of the values of /etc/xenloop.conf; see config_check.h. The keys are those of
// preload/settings/keys.def.

#include "tools/config_check.h"

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "preload/settings/config.h"
#include "tools/environment.h"
#include "tools/text_output.h"

namespace xenloop::tools {
namespace {

enum class ValueKind {
  kOnOff,
  kOtherUsers,
  kOffers,
  kNumber,
  kPowerOfTwo,
  kRuntimeDirectory,
  kFile
};

struct KnownKey {
  const char* name;
  ValueKind kind;
  uint64_t least;  // the value of a number, the length of a path
  uint64_t most;
};

constexpr KnownKey kKnownKeys[] = {
#define KEY(name, kind, least, most, field) {#name, ValueKind::k##kind, least, most},
#include "preload/settings/keys.def"
#undef KEY
};

const KnownKey* FindKey(absl::string_view name) {
  for (const KnownKey& key : kKnownKeys) {
    if (name == key.name) return &key;
  }
  return nullptr;
}

std::string Quoted(absl::string_view text) { return absl::StrCat("\"", Printable(text, 40), "\""); }

bool HasControlCharacter(absl::string_view text) {
  for (const char c : text) {
    if (absl::ascii_iscntrl(c) && c != '\t') return true;
  }
  return false;
}

// Without the blanks that the library skips, and no others.
absl::string_view Trimmed(absl::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) {
    text.remove_suffix(1);
  }
  return text;
}

void ParseLine(int number, absl::string_view line, ConfigFile* config) {
  const auto problem = [&](std::string text) {
    config->problems.push_back({number, std::move(text)});
  };
  // In a comment as well: the library reads no further than to the first NUL.
  if (HasControlCharacter(Trimmed(line))) {
    problem("holds control characters");
    return;
  }
  line = Trimmed(line.substr(0, line.find('#')));
  if (line.empty()) return;
  const size_t equals = line.find('=');
  if (equals == absl::string_view::npos) {
    problem(absl::StrCat(Quoted(line), " is not of the form `key = value`"));
    return;
  }
  const absl::string_view key = Trimmed(line.substr(0, equals));
  const absl::string_view value = Trimmed(line.substr(equals + 1));
  if (!IsKnownKey(key)) {
    const std::string lower = absl::AsciiStrToLower(key);
    const std::optional<std::string> meant = KeyOfVariable(absl::AsciiStrToUpper(key));
    std::string hint;
    if (IsKnownKey(lower)) hint = absl::StrCat("; keys are lower-case: ", lower);
    if (meant) hint = absl::StrCat("; did you mean ", *meant, "?");
    problem(absl::StrCat("unknown key ", Quoted(key), hint));
    return;
  }
  if (IsRuleKey(std::string(key).c_str())) {
    if (const char* wrong =
            AddRule(&config->rules, std::string(key).c_str(), std::string(value).c_str())) {
      problem(absl::StrCat(key, ": ", wrong, "; until it is mended, nothing is accelerated"));
    }
    return;
  }
  if (const std::optional<std::string> wrong = ProblemOfValue(key, value)) {
    problem(absl::StrCat(key, ": ", *wrong));
    return;
  }
  if (config->Value(key)) problem(absl::StrCat(key, " is set twice"));
  config->settings.push_back({number, std::string(key), std::string(value)});
}

}  // namespace

std::optional<std::string> ConfigFile::Value(absl::string_view key) const {
  for (auto setting = settings.rbegin(); setting != settings.rend(); ++setting) {
    if (setting->key == key) return setting->value;
  }
  return std::nullopt;
}

bool IsKnownKey(absl::string_view key) {
  return FindKey(key) != nullptr || IsRuleKey(std::string(key).c_str());
}

std::optional<std::string> KeyOfVariable(absl::string_view variable) {
  if (variable == "XENLOOP") return "enabled";
  if (!absl::StartsWith(variable, "XENLOOP_")) return std::nullopt;
  const std::string key = absl::AsciiStrToLower(variable.substr(8));
  if (FindKey(key) == nullptr) return std::nullopt;  // rules are the file's alone
  return key;
}

std::optional<bool> OnOrOff(absl::string_view value) {
  for (const char* on : {"on", "1", "yes", "true"}) {
    if (value == on) return true;
  }
  for (const char* off : {"off", "0", "no", "false"}) {
    if (value == off) return false;
  }
  return std::nullopt;
}

std::optional<std::string> ProblemOfValue(absl::string_view key, absl::string_view value) {
  const KnownKey* known = FindKey(key);
  if (known == nullptr) return absl::StrCat("unknown key ", Quoted(key));
  if (value.empty()) return "has no value";
  uint64_t number = 0;
  switch (known->kind) {
    case ValueKind::kOnOff:
      if (OnOrOff(value)) return std::nullopt;
      return absl::StrCat(Quoted(value), " is neither `on` nor `off`");
    case ValueKind::kOtherUsers:
      if (OnOrOff(value) || value == "system") return std::nullopt;
      return absl::StrCat(Quoted(value), " is none of `off`, `system` and `on`");
    case ValueKind::kOffers:
      if (value == "accept" || value == "refuse") return std::nullopt;
      return absl::StrCat(Quoted(value), " is neither `accept` nor `refuse`");
    case ValueKind::kNumber:
    case ValueKind::kPowerOfTwo:
      // SimpleAtoi alone would also take " 5" and "+5".
      if (!absl::ascii_isdigit(value[0]) || !absl::SimpleAtoi(value, &number)) {
        return absl::StrCat(Quoted(value), " is not a whole number");
      }
      if (number < known->least || number > known->most) {
        return absl::StrCat(value, " is not between ", known->least, " and ", known->most);
      }
      if (known->kind == ValueKind::kPowerOfTwo && (number & (number - 1)) != 0) {
        return absl::StrCat(value, " is not a power of two");
      }
      return std::nullopt;
    case ValueKind::kRuntimeDirectory:
    case ValueKind::kFile:
      if (value[0] != '/') return absl::StrCat(Quoted(value), " is not an absolute path");
      if (value.size() > known->most) {
        return absl::StrCat("is longer than ", known->most, " characters");
      }
      return std::nullopt;
  }
  return std::nullopt;
}

ConfigFile ParseConfig(absl::string_view text) {
  ConfigFile config;
  config.exists = true;
  int number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n'))
    ParseLine(++number, line, &config);
  return config;
}

ConfigFile ReadConfig(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadSmallFile(path, kLongestConfigBytes);
  if (text.ok()) return ParseConfig(*text);
  ConfigFile config;
  if (absl::IsNotFound(text.status())) return config;
  config.exists = true;
  config.problems.push_back({0, std::string(text.status().message())});
  return config;
}

}  // namespace xenloop::tools

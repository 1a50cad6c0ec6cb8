// The keys of /etc/xenloop.conf and the checks of their values; see config_check.h.

#include "tools/config_check.h"

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tools/environment.h"
#include "tools/text_output.h"

namespace xenloop::tools {
namespace {

constexpr size_t kLongestFileBytes = 64 * 1024;

enum class ValueKind { kOnOff, kZeroOne, kOffers, kCount, kPowerOfTwo, kFile, kDirectory };

struct KnownKey {
  const char* name;
  ValueKind kind;
};

constexpr KnownKey kKnownKeys[] = {
    {"enabled", ValueKind::kOnOff},        {"stats", ValueKind::kFile},
    {"log", ValueKind::kFile},             {"upgrade_after", ValueKind::kCount},
    {"offers", ValueKind::kOffers},        {"spin_us", ValueKind::kCount},
    {"fifo_bytes", ValueKind::kPowerOfTwo}, {"runtime_dir", ValueKind::kDirectory},
    {"switch_every", ValueKind::kCount},   {"test_points", ValueKind::kZeroOne},
};

const KnownKey* FindKey(absl::string_view name) {
  for (const KnownKey& key : kKnownKeys) {
    if (name == key.name) return &key;
  }
  return nullptr;
}

std::string Quoted(absl::string_view text) { return absl::StrCat("\"", Printable(text, 40), "\""); }

// A '#' begins a comment where it starts the line or follows a blank, so that a path may hold one.
absl::string_view WithoutComment(absl::string_view line) {
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '#' && (i == 0 || absl::ascii_isspace(line[i - 1]))) return line.substr(0, i);
  }
  return line;
}

bool HasControlCharacter(absl::string_view text) {
  for (const char c : text) {
    if (absl::ascii_iscntrl(c) && c != '\t') return true;
  }
  return false;
}

void ParseLine(int number, absl::string_view line, ConfigFile* config) {
  const auto problem = [&](std::string text) {
    config->problems.push_back({number, std::move(text)});
  };
  if (absl::EndsWith(line, "\r")) {
    problem("ends in a carriage return (a file from Windows?)");
    return;
  }
  line = absl::StripAsciiWhitespace(WithoutComment(line));
  if (line.empty()) return;
  if (HasControlCharacter(line)) {
    problem("holds control characters");
    return;
  }
  const size_t equals = line.find('=');
  if (equals == absl::string_view::npos) {
    problem(absl::StrCat(Quoted(line), " is not of the form `key = value`"));
    return;
  }
  const absl::string_view key = absl::StripAsciiWhitespace(line.substr(0, equals));
  const absl::string_view value = absl::StripAsciiWhitespace(line.substr(equals + 1));
  if (!IsKnownKey(key)) {
    const std::string lower = absl::AsciiStrToLower(key);
    const std::optional<std::string> meant = KeyOfVariable(absl::AsciiStrToUpper(key));
    std::string hint;
    if (IsKnownKey(lower)) hint = absl::StrCat("; keys are lower-case: ", lower);
    if (meant) hint = absl::StrCat("; did you mean ", *meant, "?");
    problem(absl::StrCat("unknown key ", Quoted(key), hint));
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

bool IsKnownKey(absl::string_view key) { return FindKey(key) != nullptr; }

std::optional<std::string> KeyOfVariable(absl::string_view variable) {
  if (variable == "XENLOOP") return "enabled";
  if (!absl::StartsWith(variable, "XENLOOP_")) return std::nullopt;
  const std::string key = absl::AsciiStrToLower(variable.substr(8));
  if (key == "enabled" || !IsKnownKey(key)) return std::nullopt;
  return key;
}

std::optional<std::string> ProblemOfValue(absl::string_view key, absl::string_view value) {
  const KnownKey* known = FindKey(key);
  if (known == nullptr) return absl::StrCat("unknown key ", Quoted(key));
  if (value.empty()) return "has no value";
  uint64_t number = 0;
  switch (known->kind) {
    case ValueKind::kOnOff:
      if (value == "on" || value == "off") return std::nullopt;
      return absl::StrCat(Quoted(value), " is neither `on` nor `off`");
    case ValueKind::kZeroOne:
      if (value == "0" || value == "1") return std::nullopt;
      return absl::StrCat(Quoted(value), " is neither 0 nor 1");
    case ValueKind::kOffers:
      if (value == "accept" || value == "refuse") return std::nullopt;
      return absl::StrCat(Quoted(value), " is neither `accept` nor `refuse`");
    case ValueKind::kCount:
    case ValueKind::kPowerOfTwo:
      // SimpleAtoi alone would also take " 5" and "+5".
      if (!absl::ascii_isdigit(value[0]) || !absl::SimpleAtoi(value, &number)) {
        return absl::StrCat(Quoted(value), " is not a whole number");
      }
      if (known->kind == ValueKind::kPowerOfTwo && (number == 0 || (number & (number - 1)) != 0)) {
        return absl::StrCat(value, " is not a power of two");
      }
      return std::nullopt;
    case ValueKind::kFile:
    case ValueKind::kDirectory:
      if (value[0] == '/') return std::nullopt;
      return absl::StrCat(Quoted(value), " is not an absolute path");
  }
  return std::nullopt;
}

ConfigFile ParseConfig(absl::string_view text) {
  ConfigFile config;
  config.exists = true;
  int number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) ParseLine(++number, line, &config);
  return config;
}

ConfigFile ReadConfig(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadSmallFile(path, kLongestFileBytes);
  if (text.ok()) return ParseConfig(*text);
  ConfigFile config;
  if (absl::IsNotFound(text.status())) return config;
  config.exists = true;
  config.problems.push_back({0, std::string(text.status().message())});
  return config;
}

}  // namespace xenloop::tools

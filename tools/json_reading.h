// Total access to JSON from processes we do not trust: a value of the wrong type reads as zero or
// empty, a string comes back printable and short.

#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/string_view.h"

namespace xenloop::tools {

// The object in `text`, or a discarded value if there is no object in it.
nlohmann::json ParseObject(absl::string_view text);

// The member as it is meant to be: not there, negative, fractional or not a number at all is 0.
uint64_t NumberAt(const nlohmann::json& object, const char* key);
std::string TextAt(const nlohmann::json& object, const char* key, size_t longest);
bool TrueAt(const nlohmann::json& object, const char* key);

// {"reason": count, ...} at `key`, added to `counts`; keeps at most a thousand reasons.
void AddCountsAt(const nlohmann::json& object, const char* key,
                 std::map<std::string, uint64_t>* counts);

}  // namespace xenloop::tools

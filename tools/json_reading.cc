// Total access to foreign JSON; see json_reading.h.

#include "tools/json_reading.h"

#include "tools/agent_answer.h"
#include "tools/text_output.h"

namespace xenloop::tools {
namespace {

constexpr size_t kMostReasons = 1000;
constexpr size_t kLongestReason = 120;

}  // namespace

nlohmann::json ParseObject(absl::string_view text) {
  nlohmann::json value = nlohmann::json::parse(text.begin(), text.end(), /*cb=*/nullptr,
                                               /*allow_exceptions=*/false);
  if (!value.is_object()) return nlohmann::json(nlohmann::json::value_t::discarded);
  return value;
}

uint64_t NumberAt(const nlohmann::json& object, const char* key) {
  const auto member = object.find(key);
  if (member == object.end() || !member->is_number_unsigned()) return 0;
  return member->get<uint64_t>();
}

std::string TextAt(const nlohmann::json& object, const char* key, size_t longest) {
  const auto member = object.find(key);
  if (member == object.end() || !member->is_string()) return "";
  return Printable(member->get_ref<const std::string&>(), longest);
}

bool TrueAt(const nlohmann::json& object, const char* key) {
  const auto member = object.find(key);
  return member != object.end() && member->is_boolean() && member->get<bool>();
}

void AddCountsAt(const nlohmann::json& object, const char* key,
                 std::map<std::string, uint64_t>* counts) {
  const auto member = object.find(key);
  if (member == object.end() || !member->is_object()) return;
  for (const auto& [name, count] : member->items()) {
    if (!count.is_number_unsigned()) continue;
    const std::string reason = Printable(name, kLongestReason);
    if (counts->size() >= kMostReasons && counts->count(reason) == 0) continue;
    uint64_t& sum = (*counts)[reason];
    sum = SaturatingSum(sum, count.get<uint64_t>());
  }
}

}  // namespace xenloop::tools

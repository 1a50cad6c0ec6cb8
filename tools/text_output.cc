// Formatting for people; see text_output.h.

#include "tools/text_output.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace xenloop::tools {

std::string HumanBytes(uint64_t bytes) {
  if (bytes < 1000) return absl::StrCat(bytes, " B");
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double amount = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (amount >= 999.95 && unit + 1 < std::size(kUnits)) {
    amount /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", amount, kUnits[unit]);
}

std::string Counted(uint64_t count, absl::string_view noun) {
  if (count == 1) return absl::StrCat("1 ", noun);
  const bool ends_in_s = !noun.empty() && noun.back() == 's';
  return absl::StrCat(count, " ", noun, ends_in_s ? "es" : "s");
}

std::string Printable(absl::string_view text, size_t longest) {
  std::string result(text.substr(0, longest));
  for (char& c : result) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  return result;
}

TextTable::TextTable(std::vector<std::string> header)
    : widths_(header.size(), 0), right_aligned_(header.size(), false) {
  AddRow(std::move(header));
}

void TextTable::AddRow(std::vector<std::string> cells) {
  cells.resize(widths_.size());
  for (size_t i = 0; i < cells.size(); ++i) widths_[i] = std::max(widths_[i], cells[i].size());
  rows_.push_back(std::move(cells));
}

std::string TextTable::ToString() const {
  std::string text;
  for (const std::vector<std::string>& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths_[i] - row[i].size(), ' ');
      if (i > 0) line += "  ";
      absl::StrAppend(&line, right_aligned_[i] ? padding : "", row[i],
                      right_aligned_[i] ? "" : padding);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

}  // namespace xenloop::tools

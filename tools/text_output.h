// How the tools print: byte counts people can read, columns that line up, and strings from other
// processes made harmless for a terminal.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace xenloop::tools {

// 0 B, 999 B, 1.0 KiB, 12.3 MiB ... at most four digits.
std::string HumanBytes(uint64_t bytes);

// "1 stream", "2 streams".
std::string Counted(uint64_t count, absl::string_view noun);

// At most `longest` characters of printable ASCII: every other byte becomes '?', so that a program
// name or a peer's answer cannot move the cursor, change colours or break a line.
std::string Printable(absl::string_view text, size_t longest);

// Rows of cells, each column as wide as its widest cell; the last is not padded.
class TextTable {
 public:
  explicit TextTable(std::vector<std::string> header);

  void RightAlign(size_t column) { right_aligned_[column] = true; }
  void AddRow(std::vector<std::string> cells);
  std::string ToString() const;

 private:
  std::vector<std::vector<std::string>> rows_;
  std::vector<size_t> widths_;
  std::vector<bool> right_aligned_;
};

}  // namespace xenloop::tools

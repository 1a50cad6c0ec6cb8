// reasons_table --check|--write FILE: is the table of reasons between FILE's markers what
// reasons.def says? --write makes it so.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "discovery/protocol/reasons.h"

namespace {

constexpr char kBegin[] = "<!-- reasons: written by build/release/bin/reasons_table -->\n";
constexpr char kEnd[] = "<!-- end of reasons -->\n";

// Neighbours that last as long and have the same remedy share a row.
std::string Table() {
  using namespace xenloop;
  std::string text = "| reason | until when | what to do |\n|---|---|---|\n";
  for (size_t number = 1; number < kReasonCount;) {
    const auto first = static_cast<Reason>(number);
    std::string words;
    for (; number < kReasonCount; ++number) {
      const auto next = static_cast<Reason>(number);
      if (ReasonDuration(next) != ReasonDuration(first) ||
          strcmp(ReasonRemedy(next), ReasonRemedy(first)) != 0)
        break;
      words += (words.empty() ? "" : "; ") + std::string(ReasonText(next));
    }
    text += "| " + words + " | " + ReasonUntil(first) + " | " + ReasonRemedy(first) + " |\n";
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc == 3 ? argv[1] : "";
  if (what != "--check" && what != "--write") {
    fprintf(stderr, "usage: reasons_table --check|--write FILE\n");
    return 64;
  }
  std::ifstream input(argv[2]);
  const std::string text{std::istreambuf_iterator<char>(input), std::istreambuf_iterator<char>()};
  const size_t begin = text.find(kBegin);
  const size_t end = begin == std::string::npos ? begin : text.find(kEnd, begin);
  if (end == std::string::npos) {
    fprintf(stderr, "%s: no markers of the table\n", argv[2]);
    return 1;
  }
  const size_t first = begin + sizeof kBegin - 1;
  const std::string table = Table();
  if (what == "--write") {
    std::ofstream(argv[2]) << text.substr(0, first) << table << text.substr(end);
    return 0;
  }
  if (text.substr(first, end - first) == table) return 0;
  fprintf(stderr, "%s: the table of reasons is not that of reasons.def; %s --write %s mends it\n",
          argv[2], argv[0], argv[2]);
  return 1;
}

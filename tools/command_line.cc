// The grammar of the tool's command line; see command_line.h.

#include "tools/command_line.h"

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "tools/text_output.h"

namespace xenloop::tools {
namespace {

struct Grammar {
  absl::string_view command;
  std::vector<absl::string_view> options;  // one that ends in '=' takes a number
  size_t fewest_operands;
  size_t most_operands;
  bool passes_options = false;  // options that it does not know are another program's: operands
};

constexpr size_t kAny = static_cast<size_t>(-1);

const std::vector<Grammar>& Grammars() {
  static const auto* const grammars = new std::vector<Grammar>{
      {"run", {"--stats", "--json"}, 1, kAny},
      {"stat", {"--json", "--watch", "--interval="}, 0, 0},
      // A whole command may be given, so that one can put "doctor" where "run" was.
      {"doctor", {"--json"}, 0, kAny},
      {"off", {}, 0, 0},
      {"on", {}, 0, 0},
      {"leave", {}, 0, 0},
      {"arrive", {}, 0, 0},
      {"quiesce", {"--timeout=", "--force"}, 1, 1},
      {"release", {}, 1, 1},
      {"migrate", {"--timeout=", "--force"}, 1, kAny, true},
      {"save", {"--timeout=", "--force"}, 1, kAny, true},
      {"suspend", {"--timeout=", "--force"}, 1, kAny, true},
      {"restore", {}, 1, kAny, true},
      {"help", {}, 0, 1},
      {"version", {}, 0, 0},
  };
  return *grammars;
}

const Grammar* FindGrammar(absl::string_view command) {
  for (const Grammar& grammar : Grammars()) {
    if (grammar.command == command) return &grammar;
  }
  return nullptr;
}

absl::Status WrongUsage(absl::string_view command, absl::string_view what) {
  const absl::string_view before = command.empty() ? "" : " ";
  return absl::InvalidArgumentError(
      absl::StrCat(what, " (see: xenloop", before, command, " --help)"));
}

bool Allows(const Grammar& grammar, absl::string_view option) {
  for (const absl::string_view known : grammar.options) {
    if (option == known && !absl::EndsWith(known, "=")) return true;
    double number = 0;
    absl::string_view value = option;
    if (absl::EndsWith(known, "=") && absl::ConsumePrefix(&value, known)) {
      return absl::SimpleAtod(value, &number);
    }
  }
  return false;
}

CommandLine HelpFor(absl::string_view command) {
  CommandLine line;
  line.command = "help";
  if (!command.empty() && command != "help") line.operands.emplace_back(command);
  return line;
}

}  // namespace

absl::StatusOr<CommandLine> SplitCommandLine(const std::vector<std::string>& arguments) {
  if (arguments.empty()) return WrongUsage("", "what shall I do?");
  const std::string& first = arguments[0];
  if (first == "--help" || first == "-h") return HelpFor("");
  CommandLine line;
  line.command = first == "--version" || first == "-V" ? "version" : first;
  const Grammar* const grammar = FindGrammar(line.command);
  if (grammar == nullptr) {
    return WrongUsage("", absl::StrCat("there is no command \"", Printable(first, 40), "\""));
  }
  size_t next = 1;
  for (; next < arguments.size() && absl::StartsWith(arguments[next], "-"); ++next) {
    const std::string& option = arguments[next];
    if (option == "--") {
      ++next;
      break;
    }
    if (option == "--help" || option == "-h") return HelpFor(line.command);
    if (!Allows(*grammar, option) && grammar->passes_options) break;
    if (!Allows(*grammar, option)) {
      return WrongUsage(line.command, absl::StrCat(line.command, ": I do not understand ",
                                                   Printable(option, 40)));
    }
    line.options.push_back(option);
  }
  line.operands.assign(arguments.begin() + static_cast<std::ptrdiff_t>(next), arguments.end());
  if (line.operands.size() < grammar->fewest_operands) {
    return WrongUsage(
        line.command,
        absl::StrCat(line.command, line.command == "run" ? ": which program?" : ": which domain?"));
  }
  if (line.operands.size() > grammar->most_operands) {
    return WrongUsage(line.command,
                      absl::StrCat(line.command, ": I do not understand \"",
                                   Printable(line.operands[grammar->most_operands], 40), "\""));
  }
  return line;
}

}  // namespace xenloop::tools

// /proc/interrupts and /proc/net/dev; see guest_counters.h.
#include "bench/guest_counters.h"

#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace xenloop::bench {
namespace {

constexpr char kCard[] = "eth0";

// The sum over the processors: the numbers behind "IRQ:".
double SumOf(const std::string& line) {
  std::istringstream words(line.substr(line.find(':') + 1));
  double sum = 0;
  for (double count = 0; words >> count;) sum += count;
  return sum;
}

}  // namespace

GuestCounters::Counts GuestCounters::Read() {
  Counts counts;
  std::ifstream interrupts("/proc/interrupts");
  for (std::string line; std::getline(interrupts, line);) {
    // A port that a program has bound is called by the program: "evtchn:NAME".
    if (absl::StrContains(line, " evtchn:")) counts.doorbells += SumOf(line);
    if (absl::StrContains(line, " vif") || absl::StrContains(line, kCard))
      counts.card_interrupts += SumOf(line);
  }
  std::ifstream cards("/proc/net/dev");
  for (std::string line; std::getline(cards, line);) {
    if (!absl::StrContains(line, absl::StrCat(kCard, ":"))) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    constexpr int kReceived = 1;
    constexpr int kSent = 9;
    double figure = 0;
    for (int i = 0; words >> figure; ++i) {
      if (i == kReceived || i == kSent) counts.packets += figure;
    }
  }
  return counts;
}

GuestCounters::GuestCounters(bool wanted) : wanted_(wanted) {
  if (wanted_) before_ = Read();
}

nlohmann::json GuestCounters::Per(const std::string& unit, double units) const {
  nlohmann::json per = nlohmann::json::object();
  if (!wanted_ || units <= 0) return per;
  const Counts now = Read();
  per[absl::StrCat("doorbells per ", unit)] = (now.doorbells - before_.doorbells) / units;
  per[absl::StrCat("card interrupts per ", unit)] =
      (now.card_interrupts - before_.card_interrupts) / units;
  per[absl::StrCat("packets per ", unit)] = (now.packets - before_.packets) / units;
  return per;
}

}  // namespace xenloop::bench

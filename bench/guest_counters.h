// What a Xen guest's kernel counts of the work that a connection makes: interrupts of event
// channels (the network card's and the doorbells') and packets. Emulation distorts times, not
// these.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace xenloop::bench {

class GuestCounters {
 public:
  // Counts from here on, if `wanted`.
  explicit GuestCounters(bool wanted);
  // {"doorbells per UNIT": X, "card interrupts per UNIT": Y, "packets per UNIT": Z}, an empty
  // object if not wanted.
  nlohmann::json Per(const std::string& unit, double units) const;

 private:
  struct Counts {
    double doorbells = 0;        // interrupts of event channels that programs have bound
    double card_interrupts = 0;  // of the paravirtual network card
    double packets = 0;          // in and out
  };
  static Counts Read();

  bool wanted_;
  Counts before_;
};

}  // namespace xenloop::bench

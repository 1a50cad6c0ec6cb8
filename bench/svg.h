// The tables as one SVG picture: a panel of bars for each table, a panel of lines for the
// message-size sweep. Plain SVG 1.1 without scripts or external fonts.
#pragma once

#include <string>
#include <vector>

#include "bench/report.h"

namespace xenloop::bench {

std::string DrawTables(const std::vector<Table>& tables, const std::string& title,
                       const std::string& machine);

}  // namespace xenloop::bench

// Layout of the panels, in two columns where there are many; see svg.h.
#include "bench/svg.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "bench/svg_canvas.h"

namespace xenloop::bench {
namespace {

constexpr double kMargin = 28;
constexpr double kPanelWidth = 620;
constexpr double kLabelWidth = 165;
constexpr double kValueWidth = 135;
constexpr double kRowHeight = 27;
constexpr double kHeadHeight = 52;  // title and subtitle of a panel
constexpr double kFootHeight = 34;  // its axis, and the gap to the next
constexpr double kSweepHeight = 230;
constexpr size_t kPanelsOfOneColumn = 5;

Canvas::TextStyle Style(int size, const char* colour, const char* anchor = "start",
                        bool bold = false) {
  return {size, colour, anchor, bold};
}

// A picture's panel: one table, or all tables of the sweep.
struct Panel {
  std::vector<const Table*> tables;
  bool sweep = false;

  double Height() const {
    if (sweep) return kHeadHeight + kSweepHeight + kFootHeight + 16;
    return kHeadHeight + kRowHeight * static_cast<double>(tables[0]->rows.size()) + kFootHeight;
  }
};

std::string Subtitle(const CaseInfo& info, bool logarithmic) {
  return absl::StrCat(info.unit, " (", info.lower_is_better ? "less" : "more", " is better",
                      logarithmic ? ", logarithmic scale" : "", "); ", info.setup);
}

void DrawBar(Canvas& canvas, const Table& table, const Row& row, const Axis& axis, double x,
             double y) {
  const double middle = y + kRowHeight / 2;
  const bool ours = row.carrier == kXenloop;
  canvas.Text(x + kLabelWidth - 10, middle + 4, row.carrier, Style(12, kInk, "end", ours));
  const double start = x + kLabelWidth;
  if (row.repetitions == 0) {
    canvas.Text(start + 6, middle + 4, row.problem, Style(11, kAlarm));
    return;
  }
  const double end = std::max(axis.At(row.value), start + 1);
  canvas.Rect(start, y + 4, end - start, kRowHeight - 8,
              row.not_accelerated ? "#fbd5d5" : ColourOf(row.carrier), 2);
  if (row.highest > row.lowest) {
    canvas.Line(axis.At(row.lowest), middle, axis.At(row.highest), middle, kInk, 1.2);
  }
  std::string label = FormatValue(row.value);
  const std::optional<double> times = table.TimesAsGood(row, table.Base());
  if (times && row.carrier != table.Base())
    absl::StrAppend(&label, "  (", FormatValue(*times), "x ", table.Base(), ")");
  const double label_at = std::max(end, axis.At(row.highest)) + 8;
  canvas.Text(label_at, middle + 4, label, Style(12, kInk, "start", ours));
  if (row.not_accelerated) {
    canvas.Text(start + 6, middle + 4, "NOT ACCELERATED", Style(11, kAlarm, "start", true));
  }
}

void DrawBars(Canvas& canvas, const Table& table, double x, double y) {
  double smallest = 0;
  double largest = 0;
  for (const Row& row : table.rows) {
    if (row.repetitions == 0) continue;
    largest = std::max(largest, row.highest);
    if (smallest == 0 || row.value < smallest) smallest = row.value;
  }
  const Axis axis(smallest, largest, x + kLabelWidth, x + kPanelWidth - kValueWidth,
                  Axis::WantsLogarithm(smallest, largest));
  canvas.Text(x, y + 18, table.info.title, Style(15, kInk, "start", true));
  canvas.Text(x, y + 36, Subtitle(table.info, axis.logarithmic()), Style(11, kFaint));
  const double top = y + kHeadHeight;
  const double bottom = top + kRowHeight * static_cast<double>(table.rows.size());
  if (largest > 0) {
    for (const double tick : axis.ticks()) {
      canvas.Line(axis.At(tick), top - 4, axis.At(tick), bottom + 2, kGrid, 1);
      canvas.Text(axis.At(tick), bottom + 15, FormatTick(tick), Style(10, kFaint, "middle"));
    }
  }
  for (size_t i = 0; i < table.rows.size(); ++i) {
    DrawBar(canvas, table, table.rows[i], axis, x, top + kRowHeight * static_cast<double>(i));
  }
}

void DrawSweep(Canvas& canvas, const std::vector<const Table*>& sizes, double x, double y) {
  double smallest = 0;
  double largest = 0;
  for (const Table* table : sizes) {
    for (const Row& row : table->rows) {
      if (row.repetitions == 0) continue;
      largest = std::max(largest, row.value);
      if (smallest == 0 || row.value < smallest) smallest = row.value;
    }
  }
  if (largest == 0) return;
  canvas.Text(x, y + 18, sizes[0]->info.title, Style(15, kInk, "start", true));
  canvas.Text(x, y + 36, Subtitle(sizes[0]->info, true), Style(11, kFaint));
  const double left = x + 44;
  const double right = x + kPanelWidth - kValueWidth;
  const double top = y + kHeadHeight;
  const double bottom = top + kSweepHeight;
  const Axis axis(smallest, largest, bottom, top, true);
  for (const double tick : axis.ticks()) {
    canvas.Line(left, axis.At(tick), right, axis.At(tick), kGrid, 1);
    canvas.Text(left - 8, axis.At(tick) + 4, FormatTick(tick), Style(10, kFaint, "end"));
  }
  const double step = (right - left) / static_cast<double>(std::max<size_t>(1, sizes.size() - 1));
  for (size_t i = 0; i < sizes.size(); ++i) {
    const double at = left + step * static_cast<double>(i);
    canvas.Line(at, top, at, bottom, kGrid, 1);
    canvas.Text(at, bottom + 16, SweepSizeOf(sizes[i]->info.id), Style(10, kFaint, "middle"));
  }
  double label_at = top + 10;
  for (const Row& carrier : sizes[0]->rows) {
    std::vector<std::pair<double, double>> points;
    for (size_t i = 0; i < sizes.size(); ++i) {
      const Row* row = sizes[i]->Find(carrier.carrier);
      if (row == nullptr || row->repetitions == 0) continue;
      points.emplace_back(left + step * static_cast<double>(i), axis.At(row->value));
    }
    if (points.empty()) continue;
    const std::string colour = ColourOf(carrier.carrier);
    canvas.Polyline(points, colour);
    for (const auto& [px, py] : points) canvas.Dot(px, py, colour);
    canvas.Rect(right + 18, label_at - 9, 10, 10, colour, 2);
    canvas.Text(right + 34, label_at, carrier.carrier,
                Style(12, kInk, "start", carrier.carrier == kXenloop));
    label_at += 20;
  }
}

std::vector<Panel> MakePanels(const std::vector<Table>& tables) {
  std::vector<Panel> panels;
  for (const Table& table : tables) {
    const std::string sweep = SweepOf(table.info.id);
    if (!sweep.empty() && !panels.empty() && SweepOf(panels.back().tables[0]->info.id) == sweep) {
      panels.back().tables.push_back(&table);
    } else {
      panels.push_back({{&table}, !sweep.empty()});
    }
  }
  return panels;
}

}  // namespace

std::string DrawTables(const std::vector<Table>& tables, const std::string& title,
                       const std::string& machine) {
  const std::vector<Panel> panels = MakePanels(tables);
  double total = 0;
  for (const Panel& panel : panels) total += panel.Height();
  const size_t columns = panels.size() > kPanelsOfOneColumn ? 2 : 1;

  Canvas canvas;
  canvas.Text(kMargin, kMargin + 16, title, Style(20, kInk, "start", true));
  canvas.Text(kMargin, kMargin + 38, machine, Style(11, kFaint));
  canvas.Text(kMargin, kMargin + 54, "bars: medians; thin lines: lowest to highest",
              Style(11, kFaint));
  const double top = kMargin + 76;
  double x = kMargin;
  double y = top;
  double lowest = top;
  for (const Panel& panel : panels) {
    // On to the second column after half of the height.
    if (columns == 2 && x == kMargin && y - top >= total / 2) {
      x += kPanelWidth + kMargin;
      y = top;
    }
    if (panel.sweep) {
      DrawSweep(canvas, panel.tables, x, y);
    } else {
      DrawBars(canvas, *panel.tables[0], x, y);
    }
    y += panel.Height();
    lowest = std::max(lowest, y);
  }
  const double panels_width = (kPanelWidth + kMargin) * static_cast<double>(columns);
  const double title_width =
      std::max(13.5 * static_cast<double>(title.size()), 6.7 * static_cast<double>(machine.size()));
  return canvas.Finish(kMargin + std::max(panels_width, title_width + kMargin), lowest);
}

}  // namespace xenloop::bench

// The picture of moves.h: for each case the rate over time, with the marks of both moves.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "bench/moves.h"
#include "bench/sample.h"
#include "bench/svg_canvas.h"

namespace xenloop::bench {
namespace {

constexpr double kMargin = 28;
constexpr double kLeft = 84;
constexpr double kPlotWidth = 900;
constexpr double kPlotHeight = 190;
constexpr double kHead = 96;  // title, subtitle, names of the marks
constexpr double kFoot = 52;
constexpr double kWindowSeconds = 0.05;
constexpr const char* kSteps[] = {"prepare", "freeze", "resume", "upgrade"};

Canvas::TextStyle Style(int size, const char* colour, const char* anchor = "start",
                        bool bold = false) {
  return {size, colour, anchor, bold};
}

void DrawMarks(Canvas& canvas, const MoveSample& sample, const Axis& time, double top,
               double bottom) {
  for (const std::string move : {"arrival", "departure"}) {
    const double freeze = MarkOf(sample, move + "-freeze");
    const double resume = MarkOf(sample, move + "-resume");
    if (freeze < 0 || resume < 0) continue;
    canvas.Rect(time.At(freeze), top, time.At(resume) - time.At(freeze), kPlotHeight, "#f3f0ea");
    // Each name has a line of its own, since some marks are close together.
    double line = 0;
    for (const char* step : kSteps) {
      const double at = MarkOf(sample, absl::StrCat(move, "-", step));
      line += 11;
      if (at < 0) continue;
      const double name_at = top - 46 + line;
      canvas.Line(time.At(at), name_at - 8, time.At(at), bottom, "#9aa5b1", 1);
      canvas.Text(time.At(at) + 4, name_at, step, Style(10, kFaint));
    }
  }
}

void DrawPanel(Canvas& canvas, const MoveTable& table, double y) {
  const double top = y + kHead;
  const double bottom = top + kPlotHeight;
  const double right = kLeft + kPlotWidth;
  double largest = 0;
  double usual = 0;  // the lowest of the carriers' median rates
  double last_s = 0;
  for (const MoveSample* sample : table.shown) {
    std::vector<double> rates = RatesOf(*sample, kWindowSeconds);
    std::sort(rates.begin(), rates.end());
    if (rates.empty()) continue;
    largest = std::max(largest, rates.back());
    const double median = rates[rates.size() / 2];
    usual = usual == 0 ? median : std::min(usual, median);
    last_s = std::max(last_s, MarkOf(*sample, "end"));
  }
  canvas.Text(kMargin, y + 18, MoveTitle(table.case_id), Style(15, kInk, "start", true));
  const bool logarithmic = Axis::WantsLogarithm(usual, largest / 3);
  canvas.Text(kMargin, y + 36,
              absl::StrCat(MoveUnit(table.case_id), " in windows of 50 ms",
                           logarithmic ? ", logarithmic scale" : "", "; shaded: frozen"),
              Style(11, kFaint));
  if (table.shown.empty() || largest == 0) {
    canvas.Text(kLeft, top + 20, "no result", Style(12, kAlarm));
    return;
  }
  const Axis rate(usual, largest, bottom, top, logarithmic);
  const Axis time(0, last_s, kLeft, right, false);
  DrawMarks(canvas, *table.shown.back(), time, top, bottom);
  for (const double tick : rate.ticks()) {
    canvas.Line(kLeft, rate.At(tick), right, rate.At(tick), kGrid, 1);
    canvas.Text(kLeft - 8, rate.At(tick) + 4, FormatTick(tick), Style(10, kFaint, "end"));
  }
  for (int second = 0; second <= static_cast<int>(last_s); ++second) {
    canvas.Line(time.At(second), bottom, time.At(second), bottom + 4, kFaint, 1);
    canvas.Text(time.At(second), bottom + 16, absl::StrCat(second, " s"),
                Style(10, kFaint, "middle"));
  }
  double label_at = right + 22;
  for (const MoveSample* sample : table.shown) {
    const std::vector<double> rates = RatesOf(*sample, kWindowSeconds);
    std::vector<std::pair<double, double>> points;
    for (size_t i = 0; i < rates.size(); ++i) {
      const double at = (static_cast<double>(i) + 0.5) * kWindowSeconds;
      if (at <= last_s) points.emplace_back(time.At(at), rate.At(rates[i]));
    }
    canvas.Polyline(points, ColourOf(sample->carrier));
    const double label_y = top + (sample->carrier == kXenloop ? 10 : 30);
    canvas.Rect(label_at, label_y - 9, 10, 10, ColourOf(sample->carrier), 2);
    canvas.Text(label_at + 16, label_y, sample->carrier,
                Style(12, kInk, "start", sample->carrier == kXenloop));
  }
  const MoveSample& ours = *table.shown.back();
  const auto place = [&](const char* text, double from, double to) {
    canvas.Text(time.At((from + to) / 2), bottom + 34, text, Style(11, kInk, "middle"));
  };
  place("the guest is elsewhere", 0, MarkOf(ours, "arrival-prepare"));
  place("beside its peer", MarkOf(ours, "arrival-resume"), MarkOf(ours, "departure-prepare"));
  place("elsewhere again", MarkOf(ours, "departure-resume"), last_s);
}

}  // namespace

std::string DrawMoves(const std::vector<MoveTable>& tables, const std::string& title,
                      const std::string& machine) {
  Canvas canvas;
  canvas.Text(kMargin, kMargin + 16, title, Style(20, kInk, "start", true));
  canvas.Text(kMargin, kMargin + 38, machine, Style(11, kFaint));
  double y = kMargin + 54;
  for (const MoveTable& table : tables) {
    DrawPanel(canvas, table, y);
    y += kHead + kPlotHeight + kFoot;
  }
  return canvas.Finish(kLeft + kPlotWidth + 140, y);
}

}  // namespace xenloop::bench

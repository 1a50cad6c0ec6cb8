// SVG elements and axes; see svg_canvas.h.
#include "bench/svg_canvas.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "bench/sample.h"

namespace xenloop::bench {

std::string ColourOf(absl::string_view carrier) {
  if (carrier == kXenloop) return "#e8590c";
  if (carrier == kUnix) return "#4c7fb8";
  if (carrier == kSockmap) return "#5f9e8f";
  if (carrier == kRing) return "#b9c2cb";
  return "#7b8794";
}

void Canvas::Text(double x, double y, absl::string_view text, const TextStyle& style) {
  const std::string escaped =
      absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
  absl::StrAppend(&elements_,
                  absl::StrFormat("<text x=\"%.1f\" y=\"%.1f\" font-size=\"%d\" fill=\"%s\" "
                                  "text-anchor=\"%s\"%s>%s</text>\n",
                                  x, y, style.size, style.colour, style.anchor,
                                  style.bold ? " font-weight=\"bold\"" : "", escaped));
}

void Canvas::Rect(double x, double y, double width, double height, absl::string_view colour,
                  double radius) {
  absl::StrAppend(&elements_,
                  absl::StrFormat("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
                                  "rx=\"%.1f\" fill=\"%s\"/>\n",
                                  x, y, width, height, radius, colour));
}

void Canvas::Line(double x1, double y1, double x2, double y2, absl::string_view colour,
                  double width) {
  absl::StrAppend(&elements_,
                  absl::StrFormat("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" "
                                  "stroke=\"%s\" stroke-width=\"%.1f\"/>\n",
                                  x1, y1, x2, y2, colour, width));
}

void Canvas::Polyline(const std::vector<std::pair<double, double>>& points,
                      absl::string_view colour) {
  absl::StrAppend(&elements_, "<polyline fill=\"none\" stroke-width=\"2.5\" stroke=\"", colour,
                  "\" points=\"");
  for (const auto& [x, y] : points) {
    absl::StrAppend(&elements_, absl::StrFormat("%.1f,%.1f ", x, y));
  }
  absl::StrAppend(&elements_, "\"/>\n");
}

void Canvas::Dot(double x, double y, absl::string_view colour) {
  absl::StrAppend(
      &elements_,
      absl::StrFormat("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n", x, y, colour));
}

std::string Canvas::Finish(double width, double height) const {
  return absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
      "viewBox=\"0 0 %.0f %.0f\" font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\">\n"
      "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n%s</svg>\n",
      width, height, width, height, elements_);
}

bool Axis::WantsLogarithm(double smallest, double largest) {
  return smallest > 0 && largest / smallest > 12;
}

Axis::Axis(double smallest, double largest, double start, double end, bool logarithmic)
    : start_(start), end_(end), logarithmic_(logarithmic) {
  if (logarithmic_) {
    // A decade begins below the smallest value, so that it still has a visible bar.
    low_ = std::floor(std::log10(smallest * 0.7));
    high_ = std::log10(largest);
    const int decades = static_cast<int>(std::floor(high_ - low_ + 1e-9));
    for (int i = 0; i <= decades; ++i) ticks_.push_back(std::pow(10, low_ + i));
    return;
  }
  low_ = 0;
  high_ = largest > 0 ? largest : 1;
  const double rough = high_ / 4;
  const double decade = std::pow(10, std::floor(std::log10(rough)));
  double step = decade;
  for (const double times : {1.0, 2.0, 2.5, 5.0, 10.0}) {
    step = decade * times;
    if (step >= rough) break;
  }
  for (int i = 0; step * i <= high_ * 1.001; ++i) ticks_.push_back(step * i);
}

double Axis::At(double value) const {
  const double place = logarithmic_ ? std::log10(std::max(value, 1e-9)) : value;
  const double part = std::clamp((place - low_) / (high_ - low_), 0.0, 1.0);
  return start_ + part * (end_ - start_);
}

std::string FormatTick(double value) {
  if (value >= 1e6) return absl::StrFormat("%gM", value / 1e6);
  if (value >= 1e3) return absl::StrFormat("%gk", value / 1e3);
  return absl::StrFormat("%g", value);
}

}  // namespace xenloop::bench

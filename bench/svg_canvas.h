// What the panels are drawn with: a few SVG elements, the colour of each carrier, and axes.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace xenloop::bench {

inline constexpr char kInk[] = "#1f2933";
inline constexpr char kFaint[] = "#66727f";
inline constexpr char kGrid[] = "#e4e8ec";
inline constexpr char kAlarm[] = "#c92a2a";

std::string ColourOf(absl::string_view carrier);

// Appends elements to a growing picture.
class Canvas {
 public:
  struct TextStyle {
    int size = 12;
    const char* colour = kInk;
    const char* anchor = "start";  // or "middle", "end"
    bool bold = false;
  };
  void Text(double x, double y, absl::string_view text, const TextStyle& style);
  void Rect(double x, double y, double width, double height, absl::string_view colour,
            double radius = 0);
  void Line(double x1, double y1, double x2, double y2, absl::string_view colour, double width);
  void Polyline(const std::vector<std::pair<double, double>>& points, absl::string_view colour);
  void Dot(double x, double y, absl::string_view colour);
  // The whole picture.
  std::string Finish(double width, double height) const;

 private:
  std::string elements_;
};

// Maps values to a stretch of the picture, with round ticks; logarithmic where values are far
// apart.
class Axis {
 public:
  // From `start` to `end` in picture coordinates.
  Axis(double smallest, double largest, double start, double end, bool logarithmic);
  double At(double value) const;
  bool logarithmic() const { return logarithmic_; }
  const std::vector<double>& ticks() const { return ticks_; }
  // Whether values are so far apart that a linear axis hides the small ones.
  static bool WantsLogarithm(double smallest, double largest);

 private:
  double start_;
  double end_;
  bool logarithmic_;
  double low_;
  double high_;
  std::vector<double> ticks_;
};

std::string FormatTick(double value);

}  // namespace xenloop::bench

#include "charts.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "paceline/base/assert.hpp"

namespace paceline::page {
namespace {

using nlohmann::json;

constexpr int tones = 8;

json number(double value) {
  return std::isfinite(value) ? json(value) : json(nullptr);
}

int tone_of(int wanted, std::size_t place) {
  PACELINE_ASSERT(wanted < tones, "a page has the tones 0 to 7");
  return wanted >= 0 ? wanted : static_cast<int>(place % tones);
}

const char* name_of(Look look) {
  switch (look) {
    case Look::line: return "line";
    case Look::dashed: return "dashed";
    case Look::dotted: return "dotted";
    case Look::points: return "points";
  }
  return "line";
}

json to_json(const Point& point) {
  json entry = {{"x", number(point.x)}, {"y", number(point.y)}};
  if (point.low && point.high) {
    entry["low"] = number(*point.low);
    entry["high"] = number(*point.high);
  }
  return entry;
}

json to_json(const Line& line, std::size_t place) {
  json points = json::array();
  for (const Point& point : line.points) points.push_back(to_json(point));
  return {{"name", line.name},
          {"points", std::move(points)},
          {"look", name_of(line.look)},
          {"spread", line.spread == Spread::band ? "band" : "whiskers"},
          {"tone", tone_of(line.tone, place)}};
}

/// '<' stands only within strings of JSON, and means the same there when it is escaped.
std::string inside_script(const json& value) {
  const std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  std::string safe;
  for (const char letter : text) {
    if (letter == '<')
      safe += "\\u003c";
    else
      safe += letter;
  }
  return safe;
}

}  // namespace

std::string to_json(const LineChart& chart) {
  json value = {{"kind", "lines"},
                {"title", chart.title},
                {"xTitle", chart.x_title},
                {"yTitle", chart.y_title},
                {"xTicks", chart.x_ticks},
                {"percent", chart.percent},
                {"fromZero", chart.from_zero},
                {"stacked", chart.stacked},
                {"stepped", chart.stepped},
                {"lines", json::array()},
                {"marks", json::array()}};
  for (std::size_t i = 0; i < chart.lines.size(); ++i) value["lines"].push_back(to_json(chart.lines[i], i));
  for (const Mark& mark : chart.marks) value["marks"].push_back({{"x", number(mark.x)}, {"text", mark.text}});
  return inside_script(value);
}

std::string to_json(const BarChart& chart) {
  json value = {{"kind", "bars"},           {"title", chart.title},           {"yTitle", chart.y_title},
                {"percent", chart.percent}, {"categories", chart.categories}, {"stacked", chart.stacked},
                {"bars", json::array()}};
  for (std::size_t i = 0; i < chart.bars.size(); ++i) {
    const Bars& bars = chart.bars[i];
    PACELINE_ASSERT(bars.values.size() == chart.categories.size(), "bars have a value for each category");
    json values = json::array();
    for (const double one : bars.values) values.push_back(number(one));
    value["bars"].push_back(
        {{"name", bars.name}, {"values", std::move(values)}, {"tone", tone_of(bars.tone, i)}});
  }
  return inside_script(value);
}

std::vector<Point> thinned(const std::vector<Point>& points, std::size_t most) {
  constexpr std::size_t kept = 4;  // of each stretch
  PACELINE_ASSERT(most >= kept, "a line needs a few points");
  if (points.size() <= most) return points;
  const std::size_t stretches = most / kept;
  std::vector<Point> left;
  for (std::size_t i = 0; i < stretches; ++i) {
    const auto begin = points.begin() + static_cast<std::ptrdiff_t>(points.size() * i / stretches);
    const auto end = points.begin() + static_cast<std::ptrdiff_t>(points.size() * (i + 1) / stretches);
    const auto below = [](const Point& one, const Point& other) {
      return std::isfinite(one.y) && (!std::isfinite(other.y) || one.y < other.y);
    };
    const auto above = [](const Point& one, const Point& other) {
      return std::isfinite(other.y) && (!std::isfinite(one.y) || one.y < other.y);
    };
    std::vector<std::vector<Point>::const_iterator> chosen = {begin, std::min_element(begin, end, below),
                                                              std::max_element(begin, end, above), end - 1};
    std::sort(chosen.begin(), chosen.end());
    chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
    for (const auto at : chosen) left.push_back(*at);
  }
  return left;
}

}  // namespace paceline::page

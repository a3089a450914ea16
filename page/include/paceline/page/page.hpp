#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace paceline::page {

/// Where a line goes, and between what. A `y` that is not finite is a gap.
struct Point {
  double x = 0;
  double y = 0;
  std::optional<double> low{};  ///< the least that it may be; both or none
  std::optional<double> high{};
};

enum class Look { line, dashed, dotted, points };
/// How `low` and `high` of a line's points are shown.
enum class Spread { whiskers, band };

struct Line {
  std::string name;
  std::vector<Point> points;  ///< by ascending x
  Look look = Look::line;
  Spread spread = Spread::whiskers;
  int tone = -1;  ///< 0 to 7, for a thing that is in several charts; -1: by its place in this one
};

/// Something that happened at x: a line from top to bottom, with a word beside it.
struct Mark {
  double x = 0;
  std::string text;
};

/// Lines over a scale of numbers.
struct LineChart {
  std::string title;
  std::string note{};  ///< a sentence below the title
  std::string x_title{};
  std::string y_title{};  ///< with the unit
  std::vector<Line> lines{};
  std::vector<Mark> marks{};
  std::vector<double> x_ticks{};  ///< at these alone; empty: at round numbers
  bool percent = false;           ///< y is a fraction
  bool from_zero = true;          ///< else from the least y
  bool stacked = false;           ///< areas on top of each other, of lines with the same x
  bool stepped = false;           ///< a value holds until the next
};

/// One value for each of the chart's categories; what is not finite has no bar.
struct Bars {
  std::string name;
  std::vector<double> values;
  int tone = -1;
};

struct BarChart {
  std::string title;
  std::string note{};
  std::string y_title{};
  std::vector<std::string> categories{};
  std::vector<Bars> bars{};
  bool stacked = false;  ///< else beside each other
  bool percent = false;
};

struct Row {
  std::vector<std::string> cells;
  bool faint = false;  ///< not like the others: simulated, out of date
};

struct Table {
  std::vector<std::string> columns;
  std::vector<Row> rows;
  std::size_t text_columns = 1;  ///< so many are texts, those after them numbers
};

/// A number to be seen first.
struct Figure {
  std::string name;
  std::string value;   ///< "97.3%"
  std::string note{};  ///< small, below
};

/// A page for people, in one file that needs nothing else: no network, no server. It is readable in light and
/// dark and on paper, and its tables without scripts. Charts are drawn by Chart.js, which is part of
/// it. Every text may be anything: it is shown as it is, and can't become markup or script.
class Page {
 public:
  explicit Page(std::string title) : title_(std::move(title)) {}

  void heading(std::string_view text);
  void text(std::string_view paragraph);
  void figures(const std::vector<Figure>& figures);
  void table(const Table& table);
  void chart(const LineChart& chart);
  void chart(const BarChart& chart);

  /// The whole file.
  [[nodiscard]] std::string html() const;

 private:
  void add_chart(const std::string& title, const std::string& note, const std::string& json);

  std::string title_;
  std::string body_;
};

/// As many points as `most` (at least 4) or fewer, with every peak and dip left in: of each stretch of a long
/// line its first, least, greatest and last. A gap within a stretch is lost.
[[nodiscard]] std::vector<Point> thinned(const std::vector<Point>& points, std::size_t most);

/// As text of HTML, also within quotes. What is no UTF-8 becomes U+FFFD.
[[nodiscard]] std::string escaped(std::string_view text);

}  // namespace paceline::page

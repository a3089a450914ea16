#include "seeing/top_columns.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "format.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::size_t bar_columns = 20;
constexpr std::size_t most_name = 24;
constexpr double mib = 1 << 20;

struct Cell {
  std::string text;
  std::vector<ScreenLine::Span> spans{};
};

struct Column {
  std::string title;
  bool is_text = false;  // to the left
  int importance = 0;    // where there is no room for all, the lowest go first
  std::function<Cell(const TopRow&)> cell;
  std::function<double(const TopRow&)> order;           // of numbers; NaN: not known
  std::function<std::string(const TopRow&)> name = {};  // of texts
  std::function<bool(const TopRow&)> is_there = {};     // shown where any row has it; empty: always
};

double number(const std::optional<double>& value) {
  return value.value_or(std::nan(""));
}

Cell number_cell(double value, int decimals) {
  return {std::isfinite(value) ? fixed(value, decimals) : "-"};
}

/// Each part with as many letters as its fraction, rounded so that all are filled.
Cell bar(const std::optional<PerPart<double>>& parts) {
  if (!parts) return {std::string(bar_columns, '-')};
  Cell cell;
  double done = 0;
  for (std::size_t i = 0; i < parts->size(); ++i) {
    done += parts->at(i);
    const auto until = std::min(bar_columns, static_cast<std::size_t>(std::lround(done * bar_columns)));
    if (until <= cell.text.size()) continue;
    const auto style = static_cast<Style>(static_cast<std::size_t>(Style::data) + i);
    cell.spans.push_back({cell.text.size(), until - cell.text.size(), style});
    cell.text.resize(until, top_part_letters[i]);
  }
  cell.text.resize(bar_columns, ' ');
  return cell;
}

Column number_column(std::string title, int importance, int decimals,
                     std::function<double(const TopRow&)> value,
                     std::function<bool(const TopRow&)> is_there = {}) {
  return {std::move(title),
          false,
          importance,
          [value, decimals](const TopRow& row) { return number_cell(value(row), decimals); },
          value,
          {},
          std::move(is_there)};
}

Column text_column(std::string title, int importance, std::function<std::string(const TopRow&)> text) {
  return {std::move(title),
          true,
          importance,
          [text](const TopRow& row) {
            const std::string whole = text(row);
            return Cell{whole.empty() ? "-" : std::string(cut_to(whole, most_name))};
          },
          {},
          text,
          {}};
}

double of_telemetry(const TopRow& row, const std::function<double(const Telemetry&)>& value) {
  return row.rank.telemetry ? value(*row.rank.telemetry) : std::nan("");
}

Column part_column(TimedPart part, const char* title) {
  return number_column(title, 2, 0, [part](const TopRow& row) {
    return row.parts ? row.parts->at(static_cast<std::size_t>(part)) * 100 : std::nan("");
  });
}

Column gpu_column(const char* title, int decimals, double scale, std::optional<double> Telemetry::*member) {
  const auto value = [member, scale](const TopRow& row) {
    return of_telemetry(row, [member, scale](const Telemetry& now) { return number(now.*member) * scale; });
  };
  return number_column(title, 4, decimals, value,
                       [value](const TopRow& row) { return std::isfinite(value(row)); });
}

std::vector<Column> make_columns() {
  std::vector<Column> columns;
  columns.push_back(number_column("rank", 10, 0, [](const TopRow& row) {
    return row.rank.rank ? static_cast<double>(*row.rank.rank) : std::nan("");
  }));
  columns.push_back(
      number_column("worker", 3, 0, [](const TopRow& row) { return static_cast<double>(row.rank.worker); }));
  columns.push_back(text_column("node", 7, [](const TopRow& row) { return row.rank.node; }));
  columns.push_back(text_column("state", 3, [](const TopRow& row) { return row.rank.state; }));
  columns.push_back(text_column("doing", 9, [](const TopRow& row) { return row.rank.doing; }));
  columns.push_back(
      number_column("share", 8, 0, [](const TopRow& row) { return static_cast<double>(row.rank.share); }));
  columns.push_back(
      number_column("step ms", 9, 1, [](const TopRow& row) { return number(row.rank.step_ms); }));
  columns.push_back(
      {"parts of the step", true, 6, [](const TopRow& row) { return bar(row.parts); }, {}, {}, {}});
  columns.push_back(part_column(TimedPart::data, "dat%"));
  columns.push_back(part_column(TimedPart::forward, "fwd%"));
  columns.push_back(part_column(TimedPart::backward, "bwd%"));
  columns.push_back(part_column(TimedPart::reduce, "red%"));
  columns.push_back(part_column(TimedPart::commit, "com%"));
  columns.push_back(part_column(TimedPart::optimizer, "opt%"));
  columns.push_back(
      number_column("CPU%", 8, 0, [](const TopRow& row) { return number(row.cpu_cores) * 100; }));
  columns.push_back(number_column("MiB", 7, 0, [](const TopRow& row) {
    return of_telemetry(row,
                        [](const Telemetry& now) { return static_cast<double>(now.memory_bytes) / mib; });
  }));
  columns.push_back(number_column("read MB/s", 5, 1,
                                  [](const TopRow& row) { return number(row.read_bytes_per_s) * 1e-6; }));
  columns.push_back(number_column("net MB/s", 5, 1,
                                  [](const TopRow& row) { return number(row.network_bytes_per_s) * 1e-6; }));
  columns.push_back(gpu_column("GPU%", 0, 100, &Telemetry::gpu_busy));
  columns.push_back(gpu_column("GPU MiB", 0, 1 / mib, &Telemetry::gpu_memory_bytes));
  columns.push_back(gpu_column("W", 0, 1, &Telemetry::gpu_power_w));
  columns.push_back(gpu_column("C", 0, 1, &Telemetry::gpu_temperature_c));
  return columns;
}

const std::vector<Column>& columns() {
  static const std::vector<Column> all = make_columns();
  return all;
}

/// The columns that fit, with their widths.
struct Fitted {
  std::vector<std::size_t> columns;
  std::vector<std::size_t> widths;  // of all
};

Fitted fit(const std::vector<std::vector<Cell>>& cells, const std::vector<TopRow>& rows, std::size_t width) {
  Fitted fitted;
  const std::vector<Column>& all = columns();
  for (std::size_t i = 0; i < all.size(); ++i) {
    fitted.widths.push_back(columns_of(all[i].title));
    for (const std::vector<Cell>& row : cells)
      fitted.widths[i] = std::max(fitted.widths[i], columns_of(row[i].text));
    if (!all[i].is_there || std::ranges::any_of(rows, all[i].is_there)) fitted.columns.push_back(i);
  }
  const auto total = [&fitted] {
    std::size_t sum = 0;
    for (const std::size_t i : fitted.columns) sum += fitted.widths[i] + 2;
    return sum - 2;
  };
  while (fitted.columns.size() > 1 && width > 0 && total() > width) {
    const auto least = std::ranges::min_element(fitted.columns, [&all](std::size_t a, std::size_t b) {
      return std::pair(all[a].importance, -static_cast<int>(a)) <
             std::pair(all[b].importance, -static_cast<int>(b));
    });
    std::erase(fitted.columns, std::size_t{*least});
  }
  return fitted;
}

ScreenLine join(const std::vector<Cell>& cells, const Fitted& fitted) {
  ScreenLine line;
  for (std::size_t place = 0; place < fitted.columns.size(); ++place) {
    const std::size_t i = fitted.columns[place];
    const std::string space(fitted.widths[i] - columns_of(cells[i].text), ' ');
    const bool is_last = place + 1 == fitted.columns.size();
    if (!columns()[i].is_text) line.text += space;
    for (ScreenLine::Span span : cells[i].spans) {
      span.begin += line.text.size();
      line.spans.push_back(span);
    }
    line.text += cells[i].text;
    if (columns()[i].is_text && !is_last) line.text += space;
    if (!is_last) line.text += "  ";
  }
  return line;
}

}  // namespace

std::size_t top_columns() {
  return columns().size();
}

bool is_sortable(std::size_t column) {
  return columns().at(column).order || columns().at(column).name;
}

bool comes_before(std::size_t number, const TopRow& a, const TopRow& b, bool descending) {
  const Column& column = columns().at(number);
  if (column.name) return descending ? column.name(b) < column.name(a) : column.name(a) < column.name(b);
  const double x = column.order(a), y = column.order(b);
  if (!std::isfinite(x) || !std::isfinite(y)) return std::isfinite(x) && !std::isfinite(y);
  return descending ? y < x : x < y;
}

Screen table_lines(const std::vector<TopRow>& rows, std::size_t width, std::size_t sort_column) {
  std::vector<std::vector<Cell>> cells;
  for (const TopRow& row : rows) {
    std::vector<Cell>& line = cells.emplace_back();
    for (const Column& column : columns()) line.push_back(column.cell(row));
  }
  const Fitted fitted = fit(cells, rows, width);
  std::vector<Cell> titles;
  for (const Column& column : columns()) titles.push_back({column.title});
  titles.at(sort_column).spans.push_back({0, columns().at(sort_column).title.size(), Style::title});
  Screen lines = {join(titles, fitted)};
  for (const std::vector<Cell>& row : cells) lines.push_back(join(row, fitted));
  return lines;
}

}  // namespace paceline

#include "seeing/top_view.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <functional>

#include "format.hpp"
#include "logs/line.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::size_t events_kept = 5;
constexpr std::size_t most_stragglers = 3;
constexpr std::size_t bar_columns = 20;
constexpr std::size_t most_name = 24;
constexpr std::string_view part_letters = "dfbrco";
constexpr double mib = 1 << 20;

// ---- columns

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
    cell.text.resize(until, part_letters[i]);
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

bool comes_before(const Column& column, const TopRow& a, const TopRow& b, bool descending) {
  if (column.name) return descending ? column.name(b) < column.name(a) : column.name(a) < column.name(b);
  const double x = column.order(a), y = column.order(b);
  // What isn't known is last either way.
  if (!std::isfinite(x) || !std::isfinite(y)) return std::isfinite(x) && !std::isfinite(y);
  return descending ? y < x : x < y;
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

ScreenLine styled(std::string text, Style style) {
  const std::size_t length = text.size();
  return {std::move(text), {{0, length, style}}};
}

/// The run's last two folders.
std::string run_name(const std::string& run_dir) {
  const std::filesystem::path path(run_dir);
  return without_control((path.parent_path().filename() / path.filename()).string());
}

std::string counted(std::int64_t number, const char* what) {
  return concat(number, " ", what, number == 1 ? "" : "s");
}

}  // namespace

// ---- text

std::size_t columns_of(std::string_view text) {
  // Of UTF-8, all but the bytes that continue a character; of other bytes too many rather than too few.
  if (!is_utf8(text)) return text.size();
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string_view cut_to(std::string_view text, std::size_t columns) {
  if (!is_utf8(text)) return text.substr(0, columns);
  std::size_t bytes = 0;
  for (; columns > 0 && bytes < text.size(); --columns) bytes += utf8_length(text.substr(bytes));
  return text.substr(0, bytes);
}

// ---- keys

std::vector<Key> KeyReader::take(std::string_view bytes) {
  static const std::map<std::string, Key, std::less<>> keys = {{"q", Key::quit},
                                                               {"Q", Key::quit},
                                                               {"\x1b[A", Key::up},
                                                               {"\x1bOA", Key::up},
                                                               {"k", Key::up},
                                                               {"\x1b[B", Key::down},
                                                               {"\x1bOB", Key::down},
                                                               {"j", Key::down},
                                                               {"\x1b[5~", Key::page_up},
                                                               {"\x1b[6~", Key::page_down},
                                                               {" ", Key::page_down},
                                                               {"\x1b[H", Key::home},
                                                               {"\x1bOH", Key::home},
                                                               {"\x1b[1~", Key::home},
                                                               {"g", Key::home},
                                                               {"\x1b[F", Key::end},
                                                               {"\x1bOF", Key::end},
                                                               {"\x1b[4~", Key::end},
                                                               {"G", Key::end},
                                                               {"\x1b[D", Key::left},
                                                               {"\x1bOD", Key::left},
                                                               {"<", Key::left},
                                                               {"\x1b[C", Key::right},
                                                               {"\x1bOC", Key::right},
                                                               {">", Key::right},
                                                               {"r", Key::reverse}};
  constexpr std::size_t longest = 4;
  std::vector<Key> pressed;
  for (const char byte : bytes) {
    if (byte == '\x1b') begun_.clear();
    begun_ += byte;
    const auto key = keys.find(begun_);
    if (key != keys.end()) pressed.push_back(key->second);
    const auto next = keys.lower_bound(begun_);
    const bool may_go_on = key == keys.end() && next != keys.end() && next->first.starts_with(begun_);
    if (!may_go_on || begun_.size() >= longest) begun_.clear();
  }
  return pressed;
}

// ---- the view

void TopView::take(const TopLook& look) {
  problem_ = look.problem;
  ended_ = look.ended;
  if (look.status) {
    rows_ = rates_.rows(*look.status, look.time_s);
    sort_rows();
    status_ = look.status;
  }
  if (look.metrics) metrics_ = look.metrics;
  if (look.step_s) step_s_ = look.step_s;
  for (const RunEvent& event : look.events) note(event);
  // One that is no rank any more keeps nobody waiting.
  std::erase_if(stragglers_, [this](const auto& entry) {
    const bool is_of_all = entry.first.first < 0;
    return !is_of_all && std::ranges::none_of(rows_, [&entry](const TopRow& row) {
      return row.rank.worker == entry.first.first;
    });
  });
}

void TopView::note(const RunEvent& event) {
  if (event.kind == EventKind::straggler) {
    const std::pair key(event.worker, event.part);
    if (event.ended)
      stragglers_.erase(key);
    else
      stragglers_.insert_or_assign(key, event);
  }
  events_.push_back(event);
  while (events_.size() > events_kept) events_.pop_front();
}

void TopView::press(Key key) {
  const std::size_t last = rows_.empty() ? 0 : rows_.size() - 1;
  const auto down = [&](std::size_t rows) { first_row_ = std::min(last, first_row_ + rows); };
  const auto up = [&](std::size_t rows) { first_row_ -= std::min(first_row_, rows); };
  const auto sort_by = [&](std::size_t step) {
    do sort_column_ = (sort_column_ + step) % columns().size();
    while (!columns()[sort_column_].order && !columns()[sort_column_].name);
    sort_rows();
  };
  switch (key) {
    case Key::quit: return;
    case Key::up: return up(1);
    case Key::down: return down(1);
    case Key::page_up: return up(page_);
    case Key::page_down: return down(page_);
    case Key::home: return up(first_row_);
    case Key::end: return down(rows_.size());
    case Key::left: return sort_by(columns().size() - 1);
    case Key::right: return sort_by(1);
    case Key::reverse: descending_ = !descending_; return sort_rows();
  }
}

void TopView::sort_rows() {
  std::ranges::stable_sort(rows_, [this](const TopRow& a, const TopRow& b) {
    return comes_before(columns()[sort_column_], a, b, descending_);
  });
}

Screen TopView::header() const {
  Screen lines;
  if (!status_) {
    lines.push_back(styled(problem_.empty() ? "asking the coordinator" : problem_, Style::alarm));
    return lines;
  }
  const TopStatus& status = *status_;
  const double percent =
      status.steps > 0 ? 100 * static_cast<double>(status.step) / static_cast<double>(status.steps) : 0;
  std::string text = concat(run_name(status.run_dir), ": ", status.state, ", step ",
                            with_commas(static_cast<double>(status.step)), " of ",
                            with_commas(static_cast<double>(status.steps)), " (", fixed(percent, 1), "%)");
  if (metrics_ && metrics_->epoch > 0) text += concat(", epoch ", metrics_->epoch);
  if (step_s_)
    text += concat(", ", clock_time(*step_s_ * static_cast<double>(status.steps - status.step)), " left");
  lines.push_back(styled(text, Style::bold));
  text.clear();
  if (metrics_ && metrics_->loss) text += concat("loss ", fixed(*metrics_->loss, 3), ", ");
  if (metrics_ && metrics_->samples_per_second)
    text += concat(with_commas(*metrics_->samples_per_second), " samples/s, ");
  if (status.efficiency) text += concat("efficiency ", fixed(*status.efficiency * 100, 0), "%, ");
  text +=
      concat("generation ", status.generation, ", wish ", counted(status.wish, "rank"), ", room for ",
             status.room, ", ", counted(status.repairs, "repair"), ", ", counted(status.resizes, "resize"));
  lines.push_back({std::move(text)});
  if (!ended_.empty())
    lines.push_back(styled(ended_, Style::alarm));
  else if (!problem_.empty())
    lines.push_back(styled(concat("what follows is old: ", problem_, "; trying again"), Style::alarm));
  std::size_t shown = 0;
  for (const auto& [key, event] : stragglers_)
    if (++shown <= most_stragglers) lines.push_back(styled(event.text, Style::alarm));
  if (shown > most_stragglers)
    lines.push_back(styled(
        concat("and ", counted(static_cast<std::int64_t>(shown - most_stragglers), "straggler"), " more"),
        Style::alarm));
  return lines;
}

Screen TopView::table(std::size_t width, std::size_t height) {
  std::vector<std::vector<Cell>> cells;
  for (const TopRow& row : rows_) {
    std::vector<Cell>& line = cells.emplace_back();
    for (const Column& column : columns()) line.push_back(column.cell(row));
  }
  const Fitted fitted = fit(cells, rows_, width);
  std::vector<Cell> titles;
  for (std::size_t i = 0; i < columns().size(); ++i) {
    titles.push_back({columns()[i].title});
    if (i == sort_column_) titles.back().spans.push_back({0, titles.back().text.size(), Style::title});
  }
  Screen lines = {join(titles, fitted)};
  if (lines[0].spans.empty()) lines[0].spans.push_back({0, lines[0].text.size(), Style::faint});
  page_ = height > 2 ? height - 1 : 1;
  const std::size_t room = height == 0 ? rows_.size() : page_;
  // The last page is full.
  first_row_ = std::min(first_row_, rows_.size() - std::min(rows_.size(), room));
  const std::size_t end = std::min(rows_.size(), first_row_ + room);
  for (std::size_t i = first_row_; i < end; ++i) {
    ScreenLine line = join(cells[i], fitted);
    const bool straggles = std::ranges::any_of(
        stragglers_, [&](const auto& entry) { return entry.first.first == rows_[i].rank.worker; });
    if (straggles)
      line.spans.insert(line.spans.begin(), {0, line.text.find_first_not_of(" 0123456789-"), Style::alarm});
    lines.push_back(std::move(line));
  }
  return lines;
}

Screen TopView::footer(bool for_terminal) const {
  Screen lines;
  if (!events_.empty()) {
    lines.push_back({""});
    for (const RunEvent& event : events_)
      lines.push_back(
          {concat("after step ", with_commas(static_cast<double>(event.after_step)), ": ", event.text)});
  }
  if (!for_terminal) return lines;
  lines.push_back({""});
  ScreenLine legend{"q quit, up/down scroll, left/right sort, r reverse |"};
  for (std::size_t i = 0; i < part_letters.size(); ++i) {
    const auto style = static_cast<Style>(static_cast<std::size_t>(Style::data) + i);
    legend.spans.push_back({legend.text.size() + 1, 1, style});
    legend.text += concat(" ", part_letters[i], " ", step_part_names.at(i));
  }
  lines.push_back(std::move(legend));
  return lines;
}

Screen TopView::screen(std::size_t width, std::size_t height) {
  Screen lines = header();
  if (status_) {
    Screen below = footer(height > 0);
    // The table has at least its title and one row; then the events give way, the oldest first.
    constexpr std::size_t least_table = 2;
    while (height > 0 && below.size() > 1 && lines.size() + 1 + below.size() + least_table > height)
      below.erase(below.begin());
    lines.push_back({""});
    const std::size_t taken = lines.size() + below.size();
    const std::size_t room = height == 0 ? 0 : std::max(least_table, height - std::min(height, taken));
    Screen rows = table(width, room);
    rows.resize(std::max(rows.size(), room));
    std::ranges::move(rows, std::back_inserter(lines));
    std::ranges::move(below, std::back_inserter(lines));
  }
  if (height > 0) lines.resize(height);
  for (ScreenLine& line : lines) {
    if (width > 0) line.text.resize(cut_to(line.text, width).size());
    std::erase_if(line.spans, [&](const auto& span) { return span.begin >= line.text.size(); });
    for (auto& span : line.spans) span.length = std::min(span.length, line.text.size() - span.begin);
  }
  return lines;
}

}  // namespace paceline

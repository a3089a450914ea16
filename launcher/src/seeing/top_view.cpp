#include "seeing/top_view.hpp"

#include <algorithm>
#include <filesystem>

#include "format.hpp"
#include "logs/line.hpp"
#include "paceline/base/text.hpp"
#include "seeing/top_columns.hpp"

namespace paceline {
namespace {

constexpr std::size_t events_kept = 5;
constexpr std::size_t most_stragglers = 3;

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
    do sort_column_ = (sort_column_ + step) % top_columns();
    while (!is_sortable(sort_column_));
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
    case Key::left: return sort_by(top_columns() - 1);
    case Key::right: return sort_by(1);
    case Key::reverse: descending_ = !descending_; return sort_rows();
  }
}

void TopView::sort_rows() {
  std::ranges::stable_sort(rows_, [this](const TopRow& a, const TopRow& b) {
    return comes_before(sort_column_, a, b, descending_);
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
  page_ = height > 2 ? height - 1 : 1;
  const std::size_t room = height == 0 ? rows_.size() : page_;
  // The last page is full.
  first_row_ = std::min(first_row_, rows_.size() - std::min(rows_.size(), room));
  const std::size_t end = std::min(rows_.size(), first_row_ + room);
  // All rows, so that columns keep their widths while one scrolls.
  Screen all = table_lines(rows_, width, sort_column_);
  if (all[0].spans.empty()) all[0].spans.push_back({0, all[0].text.size(), Style::faint});
  Screen lines = {std::move(all[0])};
  for (std::size_t i = first_row_; i < end; ++i) {
    ScreenLine& line = lines.emplace_back(std::move(all[i + 1]));
    const bool straggles = std::ranges::any_of(
        stragglers_, [&](const auto& entry) { return entry.first.first == rows_[i].rank.worker; });
    if (straggles)
      line.spans.insert(line.spans.begin(), {0, line.text.find_first_not_of(" 0123456789-"), Style::alarm});
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
  for (std::size_t i = 0; i < top_part_letters.size(); ++i) {
    const auto style = static_cast<Style>(static_cast<std::size_t>(Style::data) + i);
    legend.spans.push_back({legend.text.size() + 1, 1, style});
    legend.text += concat(" ", top_part_letters[i], " ", step_part_names.at(i));
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

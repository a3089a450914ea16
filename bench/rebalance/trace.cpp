#include "rebalance/trace.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

constexpr std::int64_t most_workers = 4096, most_stages = 1024;
constexpr double most_time = 1e9;
constexpr std::int64_t most_number = 1'000'000'000'000;

const std::vector<std::string> worker_columns = {"", "worker", "gpu", "time", "batch_time_norm"};
const std::vector<std::string> stage_columns = {"step",           "dp_rank",   "pp_stage",
                                                "n_microbatches", "forward_s", "backward_s"};

/// Where in an iteration a value belongs: a rank's only stage is stage 0.
using Place = std::pair<std::int64_t, std::int64_t>;
struct Cell {
  std::int64_t iteration = 0;
  Place place;
  double time = 0;
  std::int64_t micro_batches = 0;
};
using Cells = std::map<std::int64_t, std::map<Place, Cell>>;

/// One line, and what an error about it needs.
struct Line {
  const std::string& name;
  std::size_t number;
  const std::vector<std::string>& columns;
  std::vector<std::string> fields;

  [[nodiscard]] Error refuse(std::size_t column, const std::string& wanted) const {
    return {ErrorCode::corrupt, concat(shown(name), ":", number, ": ",
                                       columns[column].empty() ? "the first column" : columns[column], " is ",
                                       shown(fields[column]), ", and not ", wanted)};
  }
  [[nodiscard]] Result<std::int64_t> integer(std::size_t column, std::int64_t most) const {
    if (const auto value = parse_integer(fields[column], 0, most)) return *value;
    return refuse(column, concat("a whole number from 0 to ", most));
  }
  [[nodiscard]] Result<double> time(std::size_t column) const {
    const std::string& field = fields[column];
    double value = 0;
    const auto [end, problem] = std::from_chars(field.data(), field.data() + field.size(), value);
    if (problem != std::errc() || end != field.data() + field.size() || !std::isfinite(value) || value <= 0 ||
        value > most_time)
      return refuse(column, concat("a time above 0 and up to ", most_time));
    return value;
  }
};

Result<Cell> parse_worker_line(const Line& line) {
  Cell cell;
  PACELINE_TRY(line.integer(0, most_number));
  PACELINE_ASSIGN(cell.place.first, line.integer(1, most_workers - 1));
  PACELINE_TRY(line.integer(2, most_number));
  PACELINE_ASSIGN(cell.iteration, line.integer(3, most_number));
  PACELINE_ASSIGN(cell.time, line.time(4));
  return cell;
}

Result<Cell> parse_stage_line(const Line& line) {
  Cell cell;
  PACELINE_ASSIGN(cell.iteration, line.integer(0, most_number));
  PACELINE_ASSIGN(cell.place.first, line.integer(1, most_workers - 1));
  PACELINE_ASSIGN(cell.place.second, line.integer(2, most_stages - 1));
  PACELINE_ASSIGN(cell.micro_batches, line.integer(3, most_number));
  if (cell.micro_batches == 0) return line.refuse(3, "above 0");
  PACELINE_ASSIGN(const double forward, line.time(4));
  PACELINE_ASSIGN(const double backward, line.time(5));
  cell.time = forward + backward;
  return cell;
}

Status add(const Line& line, const Cell& cell, Cells& cells) {
  std::map<Place, Cell>& iteration = cells[cell.iteration];
  if (!iteration.empty() && iteration.begin()->second.micro_batches != cell.micro_batches)
    return line.refuse(3, concat(iteration.begin()->second.micro_batches,
                                 " as elsewhere in this step: the trace is not of equal shares"));
  if (!iteration.emplace(cell.place, cell).second)
    return Error{ErrorCode::corrupt, concat(shown(line.name), ":", line.number, ": iteration ",
                                            cell.iteration, " has this worker a second time")};
  return {};
}

Result<Cells> parse_cells(std::string_view text, const std::string& name) {
  Cells cells;
  const std::vector<std::string>* columns = nullptr;
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view content = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (content.ends_with('\r')) content.remove_suffix(1);
    ++number;
    std::vector<std::string> fields = split(content, ',');
    if (columns == nullptr) {
      columns = fields == worker_columns  ? &worker_columns
                : fields == stage_columns ? &stage_columns
                                          : nullptr;
      if (columns != nullptr) continue;
      return Error{ErrorCode::corrupt,
                   concat(shown(name), ":1: no trace begins with ", shown(content.substr(0, 80)),
                          ": docs/rebalancing.md has the columns of those that can be replayed")};
    }
    if (fields.size() != columns->size())
      return Error{ErrorCode::corrupt, concat(shown(name), ":", number, ": ", columns->size(),
                                              " columns were expected, and there are ", fields.size())};
    const Line line{name, number, *columns, std::move(fields)};
    PACELINE_ASSIGN(const Cell cell,
                    columns == &worker_columns ? parse_worker_line(line) : parse_stage_line(line));
    PACELINE_TRY(add(line, cell, cells));
  }
  return cells;
}

TraceIteration iteration_of(std::int64_t number, const std::map<Place, Cell>& cells, bool staged) {
  TraceIteration iteration;
  iteration.number = number;
  std::optional<std::int64_t> worker;
  for (const auto& [place, cell] : cells) {  // by worker, and its stages one after the other
    if (worker != place.first) {
      iteration.times.push_back(0);
      if (staged) iteration.stages.emplace_back();
      worker = place.first;
    }
    iteration.times.back() = std::max(iteration.times.back(), cell.time);
    if (staged) iteration.stages.back().push_back(cell.time);
  }
  return iteration;
}

}  // namespace

Result<Trace> parse_trace(std::string_view text, const std::string& name) {
  PACELINE_ASSIGN(const Cells cells, parse_cells(text, name));
  std::set<Place> places;
  std::int64_t last_stage = 0;
  for (const auto& [number, iteration] : cells)
    for (const auto& [place, cell] : iteration) {
      places.insert(place);
      last_stage = std::max(last_stage, place.second);
    }
  Trace trace;
  for (const Place& place : places)
    if (trace.workers.empty() || trace.workers.back() != place.first) trace.workers.push_back(place.first);
  std::vector<std::int64_t> incomplete;
  for (const auto& [number, iteration] : cells)
    if (iteration.size() < places.size())
      incomplete.push_back(number);
    else
      trace.iterations.push_back(iteration_of(number, iteration, last_stage > 0));
  if (!incomplete.empty())
    trace.notes.push_back(concat(incomplete.size(), " of ", cells.size(), " iterations (the first is ",
                                 incomplete.front(), ") ", incomplete.size() == 1 ? "lacks" : "lack",
                                 " a worker, and ", incomplete.size() == 1 ? "is" : "are", " left out"));
  if (incomplete.size() * 10 > cells.size() && !trace.notes.empty())
    return Error{ErrorCode::corrupt, concat(shown(name), ": ", trace.notes.back(), ": too many")};
  if (trace.iterations.size() < 2 || trace.workers.size() < 2)
    return Error{ErrorCode::corrupt,
                 concat(shown(name), ": a replay needs two iterations of two workers, and there are ",
                        trace.iterations.size(), " of ", trace.workers.size())};
  return trace;
}

}  // namespace paceline::bench

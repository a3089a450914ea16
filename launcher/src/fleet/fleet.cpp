#include "fleet/fleet.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "paceline/base/text.hpp"
#include "spawn.hpp"
#include "worker_process.hpp"

namespace paceline {
namespace {

constexpr Duration gather_limit = std::chrono::seconds(60);
constexpr Duration part_limit = std::chrono::seconds(5);
constexpr int turn_ms = 50;
constexpr Duration speak_interval = std::chrono::seconds(1);
constexpr std::string_view own_words = "paceline: ";
std::string joined(const std::vector<std::string>& parts, std::string_view between) {
  std::string text;
  for (const std::string& part : parts) text += concat(text.empty() ? "" : between, part);
  return text;
}

}  // namespace

Result<std::unique_ptr<Fleet>> Fleet::start(const Allocation& allocation,
                                            const std::vector<std::string>& must_see, bool with_resources) {
  std::unique_ptr<Fleet> fleet(new Fleet(allocation));
  std::vector<std::string> arguments = {"agent"};
  for (const std::string& path : must_see) arguments.insert(arguments.end(), {"--see", path});
  if (with_resources) arguments.emplace_back("--resources");
  PACELINE_ASSIGN(const std::vector<NodeProgram> programs, node_programs(allocation, arguments));
  for (const NodeProgram& program : programs) {
    PACELINE_ASSIGN(Connection connection, Connection::start(program.name, program.command));
    fleet->connections_.push_back(std::move(connection));
  }
  return fleet;
}

Fleet::~Fleet() {
  part();
}

void Fleet::pump(int limit_ms) {
  read_all(
      connections_, limit_ms,
      [this](const Connection& connection, const std::string& line) { hear(connection.name(), line); },
      [this](const Connection& connection, const std::string& line) { note(connection.name(), line); });
}

void Fleet::hear(const std::string& connection, const std::string& line) {
  const auto [label, piece] = without_label(allocation_.by, line);
  const std::string sender = concat(connection, " ", label);
  const std::optional<std::string> text = pieces_[sender].add(piece);
  if (!text) return;
  if (!is_node_report(*text)) return note(connection, line);
  Result<NodeReport> report = parse_node_report(*text);
  if (report.ok())
    reports_.insert_or_assign(sender, std::move(*report));
  else if (!nonsense_)
    nonsense_ = Error{ErrorCode::corrupt, concat(connection, ": ", report.error().message)};
}

void Fleet::note(const std::string& connection, const std::string& line) {
  const std::string text = without_label(allocation_.by, line).text;
  if (text.starts_with(own_words)) complaints_.push_back(concat(connection, ": ", line));
  if (!log_.valid()) return;
  if (!write_all(log_.get(), concat("[", connection, "] ", line, "\n"), "the log of agents").ok())
    log_.reset();
}

std::string Fleet::said_last() const {
  for (const Connection& connection : connections_)
    if (const std::string words = connection.words(); !words.empty())
      return concat("; ", connection.name(), " said last: ", words);
  return "";
}

Error Fleet::describe_loss(Connection& connection) const {
  const std::string words = connection.words();
  const std::optional<int> status = connection.ended();
  const std::string what = allocation_.in_one_piece() ? allocation_.by : concat("ssh to ", connection.name());
  return {ErrorCode::peer_lost,
          concat(what, " ", status ? describe_end(*status) : "ended", words.empty() ? "" : ": ", words)};
}

std::vector<std::string> Fleet::take_complaints() {
  return std::exchange(complaints_, {});
}

bool Fleet::are_all_there() const {
  if (reports_.empty()) return false;
  const std::int64_t nodes = allocation_.nodes > 0 ? allocation_.nodes : reports_.begin()->second.tasks;
  return std::ssize(reports_) >= nodes;
}

std::string Fleet::missing() const {
  if (allocation_.nodes == 0) return reports_.empty() ? "all nodes" : "some nodes";
  if (allocation_.in_one_piece())
    return concat(allocation_.nodes - std::ssize(reports_), " of ", allocation_.nodes, " nodes");
  std::vector<std::string> names;
  for (const Connection& connection : connections_)
    if (!reports_.contains(concat(connection.name(), " "))) names.push_back(connection.name());
  return concat(names.size() == 1 ? "node " : "nodes ", joined(names, ", "));
}

Result<std::vector<NodeReport>> Fleet::gather(StopSignals& signals) {
  const SteadyClock clock;
  const Deadline deadline(clock, gather_limit);
  while (!are_all_there()) {
    pump(turn_ms);
    if (nonsense_) return *nonsense_;
    if (const int signal = signals.take(); signal != 0)
      return Error{ErrorCode::aborted, "stopped before anything was started"};
    const auto lost =
        std::ranges::find_if(connections_, [](Connection& each) { return each.ended().has_value(); });
    if (lost != connections_.end()) pump(0);  // its last words
    // One that cannot take part says why and ends; the others would wait for it.
    if (!complaints_.empty())
      return Error{ErrorCode::invalid_argument, concat("an agent cannot take part: ", complaints_.front())};
    if (lost != connections_.end() && !are_all_there()) return describe_loss(*lost);
    if (deadline.passed())
      return Error{ErrorCode::timeout, concat("waited ", to_seconds(gather_limit), " s for the agents of ",
                                              missing(), " (started by ", allocation_.by, ")", said_last())};
  }
  std::vector<NodeReport> reports;
  if (allocation_.in_one_piece())
    for (const auto& [key, report] : reports_) reports.push_back(report);
  else
    for (const Connection& connection : connections_)
      reports.push_back(reports_.at(concat(connection.name(), " ")));
  return reports;
}

Status Fleet::order(const FleetOrder& order, const std::string& log_path) {
  log_.reset(::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!log_.valid()) return system_error(concat("cannot write ", log_path));
  const std::string line = to_json(order);
  for (Connection& connection : connections_) PACELINE_TRY(connection.write_line(line));
  return {};
}

Status Fleet::attend() {
  pump(0);
  const bool speaks = clock_.now() - spoke_at_ >= speak_interval;
  if (speaks) spoke_at_ = clock_.now();
  bool any = false;
  for (Connection& connection : connections_) {
    if (const std::optional<int> status = connection.ended()) {
      // Agents that have nothing more to do end it with 0.
      if (*status != 0 && told_.insert(connection.name()).second)
        complaints_.push_back(describe_loss(connection).message);
      continue;
    }
    any = true;
    if (speaks) connection.mention();
  }
  if (any) return {};
  return describe_loss(connections_.front());
}

void Fleet::part() {
  const SteadyClock clock;
  const Deadline deadline(clock, part_limit);
  for (Connection& connection : connections_) connection.close_input();
  const auto is_there = [](Connection& connection) { return !connection.ended(); };
  while (std::ranges::any_of(connections_, is_there) && !deadline.passed()) pump(turn_ms);
  connections_.clear();
}

}  // namespace paceline

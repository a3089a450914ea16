#include "fleet/fleet.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "paceline/base/text.hpp"
#include "worker_process.hpp"

namespace paceline {
namespace {

constexpr Duration gather_limit = std::chrono::seconds(60);
constexpr Duration part_limit = std::chrono::seconds(5);
constexpr int turn_ms = 50;
constexpr Duration speak_interval = std::chrono::seconds(1);
constexpr std::string_view own_words = "paceline: ";
// What srun says where nobody binds processes, so that there is nothing to switch off.
constexpr std::string_view no_binding = "srun: cluster configuration lacks support for cpu binding";

/// For a shell on the other side.
std::string quoted(const std::string& word) {
  std::string text = "'";
  for (const char letter : word) text += letter == '\'' ? std::string("'\\''") : std::string(1, letter);
  return text + "'";
}

std::string joined(const std::vector<std::string>& parts, std::string_view between) {
  std::string text;
  for (const std::string& part : parts) text += concat(text.empty() ? "" : between, part);
  return text;
}

/// srun --label begins each line with the task's number.
std::pair<std::string, std::string> without_label(const std::string& line) {
  const std::size_t digits = line.find_first_not_of(" 0123456789");
  if (digits == std::string::npos || digits == 0 || line[digits] != ':') return {"", line};
  const std::size_t begin = std::min(line.size(), digits + 2);
  return {line.substr(0, digits), line.substr(begin)};
}

/// Settings of people for this job go to all of its nodes; the name of a node doesn't.
std::vector<std::string> settings() {
  std::vector<std::string> ours;
  for (char** entry = ::environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (text.starts_with("PACELINE_") && !text.starts_with("PACELINE_NODE=")) ours.push_back(text);
  }
  std::ranges::sort(ours);
  return ours;
}

std::string words_of(const Connection& connection) {
  std::string words;
  for (const std::string& line : connection.last_words())
    if (line != no_binding) words += concat(words.empty() ? "" : "; ", line);
  return words;
}

Result<std::string> own_program() {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return Error{ErrorCode::io, concat("cannot find this program: ", error.message())};
  return path.string();
}

}  // namespace

std::vector<std::string> srun_command(std::int64_t nodes, const std::vector<std::string>& agent_command) {
  std::vector<std::string> command = {"srun",
                                      concat("--nodes=", nodes),
                                      concat("--ntasks=", nodes),
                                      "--ntasks-per-node=1",
                                      "--cpu-bind=none",  // the agent binds the workers
                                      "--mpi=none",
                                      "--no-kill",  // the others go on when a node is lost
                                      "--kill-on-bad-exit=0",
                                      "--wait=0",
                                      "--input=all",
                                      "--label"};
  command.insert(command.end(), agent_command.begin(), agent_command.end());
  return command;
}

std::vector<std::string> ssh_command(const std::string& ssh, const std::string& host,
                                     const std::string& folder, const std::vector<std::string>& environment,
                                     const std::vector<std::string>& agent_command) {
  std::vector<std::string> command = split(ssh, ' ');
  std::erase(command, "");
  command.push_back(host);
  std::vector<std::string> words = {"cd", quoted(folder), "&&", "exec", "env"};
  for (const std::string& setting : environment) words.push_back(quoted(setting));
  for (const std::string& word : agent_command) words.push_back(quoted(word));
  command.push_back(joined(words, " "));
  return command;
}

Result<std::unique_ptr<Fleet>> Fleet::start(const Allocation& allocation,
                                            const std::vector<std::string>& must_see) {
  std::unique_ptr<Fleet> fleet(new Fleet(allocation));
  PACELINE_ASSIGN(const std::string program, own_program());
  std::vector<std::string> agent = {program, "agent"};
  for (const std::string& path : must_see) agent.insert(agent.end(), {"--see", path});
  if (allocation.by == "srun") {
    // srun hands all variables on, and this machine's name is no node's.
    ::unsetenv("PACELINE_NODE");
    PACELINE_ASSIGN(Connection srun, Connection::start("srun", srun_command(allocation.nodes, agent)));
    fleet->connections_.push_back(std::move(srun));
    return fleet;
  }
  // Without a terminal nobody could answer what it asks.
  const std::string ssh = environment("PACELINE_SSH").value_or("ssh -o BatchMode=yes");
  const std::string folder = std::filesystem::current_path().string();
  for (const Host& host : allocation.hosts) {
    PACELINE_ASSIGN(Connection connection,
                    Connection::start(host.name, ssh_command(ssh, host.name, folder, settings(), agent)));
    fleet->connections_.push_back(std::move(connection));
  }
  return fleet;
}

Fleet::~Fleet() {
  part();
}

void Fleet::pump(int limit_ms) {
  std::vector<pollfd> entries;
  for (const Connection& connection : connections_)
    for (const int fd : {connection.output_fd(), connection.error_fd()})
      if (fd >= 0) entries.push_back({fd, POLLIN, 0});
  ::poll(entries.data(), entries.size(), limit_ms);
  for (Connection& connection : connections_)
    connection.read([&](const std::string& line) { hear(connection.name(), line); },
                    [&](const std::string& line) { note(connection.name(), line); });
}

void Fleet::hear(const std::string& connection, const std::string& line) {
  const bool is_srun = allocation_.by == "srun";
  const auto [label, text] = is_srun ? without_label(line) : std::pair<std::string, std::string>("", line);
  if (!is_node_report(text)) return note(connection, line);
  Result<NodeReport> report = parse_node_report(text);
  if (report.ok())
    reports_.insert_or_assign(concat(connection, " ", label), std::move(*report));
  else if (!nonsense_)
    nonsense_ = Error{ErrorCode::corrupt, concat(connection, ": ", report.error().message)};
}

void Fleet::note(const std::string& connection, const std::string& line) {
  const std::string text = allocation_.by == "srun" ? without_label(line).second : line;
  if (text.starts_with(own_words)) complaints_.push_back(concat(connection, ": ", line));
  if (!log_.valid()) return;
  if (!write_all(log_.get(), concat("[", connection, "] ", line, "\n"), "the log of agents").ok())
    log_.reset();
}

std::string Fleet::said_last() const {
  for (const Connection& connection : connections_)
    if (const std::string words = words_of(connection); !words.empty())
      return concat("; ", connection.name(), " said last: ", words);
  return "";
}

Error Fleet::describe_loss(Connection& connection) const {
  const std::string words = words_of(connection);
  const std::optional<int> status = connection.ended();
  const std::string what =
      allocation_.by == "srun" ? std::string("srun") : concat("ssh to ", connection.name());
  return {ErrorCode::peer_lost,
          concat(what, " ", status ? describe_end(*status) : "ended", words.empty() ? "" : ": ", words)};
}

std::vector<std::string> Fleet::take_complaints() {
  return std::exchange(complaints_, {});
}

std::string Fleet::missing() const {
  if (allocation_.by == "srun")
    return concat(allocation_.nodes - std::ssize(reports_), " of ", allocation_.nodes, " nodes");
  std::vector<std::string> names;
  for (const Connection& connection : connections_)
    if (!reports_.contains(concat(connection.name(), " "))) names.push_back(connection.name());
  return concat(names.size() == 1 ? "node " : "nodes ", joined(names, ", "));
}

Result<std::vector<NodeReport>> Fleet::gather(StopSignals& signals) {
  const SteadyClock clock;
  const Deadline deadline(clock, gather_limit);
  while (std::ssize(reports_) < allocation_.nodes) {
    pump(turn_ms);
    if (nonsense_) return *nonsense_;
    if (const int signal = signals.take(); signal != 0)
      return Error{ErrorCode::aborted, "stopped before anything was started"};
    for (Connection& connection : connections_) {
      if (!connection.ended()) continue;
      pump(0);  // its last words
      if (std::ssize(reports_) < allocation_.nodes) return describe_loss(connection);
    }
    // One that cannot take part says why and ends; the others would wait for it.
    if (!complaints_.empty())
      return Error{ErrorCode::invalid_argument, concat("an agent cannot take part: ", complaints_.front())};
    if (deadline.passed())
      return Error{ErrorCode::timeout, concat("waited ", to_seconds(gather_limit), " s for the agents of ",
                                              missing(), " (started by ", allocation_.by, ")", said_last())};
  }
  std::vector<NodeReport> reports;
  if (allocation_.by == "srun")
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

#include "allreduce/group.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <sstream>

#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

const SteadyClock steady_clock;
constexpr std::size_t longest_line = std::size_t{1} << 20;
constexpr std::size_t longest_greeting = 256;

/// Cuts the first whole line off `text`; false where there is none.
bool take_line(std::string& text, std::string& line) {
  const std::size_t end = text.find('\n');
  if (end == std::string::npos) return false;
  line = text.substr(0, end);
  text.erase(0, end + 1);
  return true;
}

enum class Reading { more, nothing, ended };

Reading read_into(std::string& text, int fd) {
  char block[65536];
  const ssize_t got = ::recv(fd, block, sizeof block, MSG_DONTWAIT);
  if (got > 0) {
    text.append(block, static_cast<std::size_t>(got));
    return Reading::more;
  }
  return got < 0 && (errno == EAGAIN || errno == EINTR) ? Reading::nothing : Reading::ended;
}

}  // namespace

Group::Group(Driver& driver, std::string name, const Placement& placement)
    : driver_(driver), name_(std::move(name)), placement_(placement), ranks_(placement.node_of_rank.size()) {
}

Result<std::unique_ptr<Group>> Group::start(Driver& driver, const Recipe& recipe, const Placement& placement,
                                            Duration limit) {
  std::unique_ptr<Group> group(new Group(driver, recipe.contender, placement));
  PACELINE_TRY(group->start_processes(recipe));
  PACELINE_TRY(group->meet(limit));
  return group;
}

Status Group::start_processes(const Recipe& recipe) {
  for (const Command& command : recipe.commands) {
    Result<Process> process = bench::start(command);
    if (!process.ok()) return process.error().with_context(concat("contender ", name_));
    processes_.push_back(std::move(*process));
    ends_.emplace_back();
  }
  return {};
}

Status Group::meet(Duration limit) {
  const Deadline deadline(steady_clock, limit);
  const OnLine on_line = [this](int rank, const std::string& line) -> Status {
    if (line == "ready") {
      ranks_[static_cast<std::size_t>(rank)].ready = true;
      return {};
    }
    if (line.rfind("share ", 0) != 0)
      return Error{ErrorCode::corrupt, concat(name_of(rank), " said \"", line, "\" before it was ready")};
    return relay(rank, line);
  };
  for (;;) {
    std::vector<bool> done;
    for (const Rank& rank : ranks_) done.push_back(rank.ready);
    if (std::find(done.begin(), done.end(), false) == done.end()) return {};
    if (deadline.passed()) return too_slow("to be ready", limit, done);
    PACELINE_TRY(poll_once(deadline, on_line));
  }
}

/// What a rank shares goes to all others: at once to those that are here, and to the rest when they come.
Status Group::relay(int from, const std::string& line) {
  shared_.push_back({from, line});
  for (int rank = 0; rank < static_cast<int>(ranks_.size()); ++rank)
    if (rank != from && ranks_[static_cast<std::size_t>(rank)].connection.valid())
      PACELINE_TRY(send(rank, line));
  return {};
}

Status Group::ask(const std::string& line, const OnLine& on_answer, Duration limit) {
  const Deadline deadline(steady_clock, limit);
  const auto count = static_cast<int>(ranks_.size());
  for (int rank = 0; rank < count; ++rank) PACELINE_TRY(send(rank, line));
  std::vector<bool> done(ranks_.size(), false);
  const OnLine once = [&](int rank, const std::string& answer) -> Status {
    const auto index = static_cast<std::size_t>(rank);
    if (done[index])
      return Error{ErrorCode::corrupt, concat(name_of(rank), " answered \"", line, "\" twice")};
    done[index] = true;
    return on_answer(rank, answer);
  };
  while (std::find(done.begin(), done.end(), false) != done.end()) {
    if (deadline.passed()) return too_slow(concat("for \"", line, "\""), limit, done);
    PACELINE_TRY(poll_once(deadline, once));
  }
  return {};
}

Result<std::vector<std::vector<double>>> Group::time(std::uint64_t bytes, int repeat, int batches,
                                                     Duration limit) {
  std::vector<std::vector<double>> by_rank(ranks_.size());
  const OnLine on_answer = [&](int rank, const std::string& answer) -> Status {
    std::istringstream words(answer);
    std::string kind;
    words >> kind;
    std::vector<double>& durations = by_rank[static_cast<std::size_t>(rank)];
    for (double ns = 0; words >> ns;) durations.push_back(ns);
    if (kind == "ns" && durations.size() == static_cast<std::size_t>(batches)) return {};
    return Error{ErrorCode::corrupt,
                 concat(name_of(rank), " gave ", durations.size(), " times in place of ", batches)};
  };
  PACELINE_TRY(ask(concat("time ", bytes, " ", repeat, " ", batches), on_answer, limit));
  return by_rank;
}

Result<std::uint64_t> Group::count_errors(std::uint64_t bytes, double tolerance, Duration limit) {
  std::uint64_t errors = 0;
  const OnLine on_answer = [&](int rank, const std::string& answer) -> Status {
    const auto found =
        answer.rfind("errors ", 0) == 0 ? parse_integer(answer.substr(7), 0, INT64_MAX) : std::nullopt;
    if (!found)
      return Error{ErrorCode::corrupt, concat(name_of(rank), " said \"", answer, "\" of its check")};
    errors += static_cast<std::uint64_t>(*found);
    return {};
  };
  PACELINE_TRY(ask(concat("check ", bytes, " ", tolerance), on_answer, limit));
  return errors;
}

Status Group::quit(Duration limit) {
  for (int rank = 0; rank < static_cast<int>(ranks_.size()); ++rank) PACELINE_TRY(send(rank, "quit"));
  const Deadline deadline(steady_clock, limit);
  for (std::size_t i = 0; i < processes_.size(); ++i) reap(i, deadline);
  for (std::size_t i = 0; i < ends_.size(); ++i) {
    if (ends_[i].empty())
      return Error{ErrorCode::timeout,
                   concat("contender ", name_, ": ", processes_[i].program, " has not ended ",
                          to_seconds(limit), " s after it was told to, and is killed")};
    if (ends_[i] != "exit status 0")
      return Error{ErrorCode::peer_lost,
                   concat("contender ", name_, ": ", processes_[i].program, " ended with ", ends_[i],
                          " after it was told to quit; ", last_words())};
  }
  return {};
}

Status Group::poll_once(const Deadline& deadline, const OnLine& on_line) {
  std::vector<pollfd> waits = {{driver_.signals(), POLLIN, 0}, {driver_.listener(), POLLIN, 0}};
  const std::size_t first_stranger = waits.size();
  const std::size_t strangers = strangers_.size();
  for (const Stranger& stranger : strangers_) waits.push_back({stranger.connection.get(), POLLIN, 0});
  for (const Rank& rank : ranks_) waits.push_back({rank.ended ? -1 : rank.connection.get(), POLLIN, 0});
  for (std::size_t i = 0; i < processes_.size(); ++i)
    waits.push_back({ends_[i].empty() ? processes_[i].pid_fd.get() : -1, POLLIN, 0});
  if (::poll(waits.data(), waits.size(), deadline.left_ms()) < 0 && errno != EINTR)
    return system_error("poll");
  if (driver_.take_signal() != 0)
    return Error{ErrorCode::aborted, concat("stopped by signal ", driver_.take_signal())};
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank)
    if (waits[first_stranger + strangers + rank].revents != 0)
      PACELINE_TRY(read_rank(static_cast<int>(rank), on_line));
  for (std::size_t i = strangers; i-- > 0;)
    if (waits[first_stranger + i].revents != 0) PACELINE_TRY(read_stranger(i, on_line));
  if (waits[1].revents != 0) accept_stranger();
  return look_for_losses();
}

void Group::accept_stranger() {
  UniqueFd connection(::accept4(driver_.listener(), nullptr, nullptr, SOCK_CLOEXEC));
  constexpr std::size_t most_strangers = 4096;
  if (connection.valid() && strangers_.size() < most_strangers)
    strangers_.push_back({std::move(connection), ""});
}

Status Group::read_stranger(std::size_t index, const OnLine& on_line) {
  Stranger& stranger = strangers_[index];
  const Reading reading = read_into(stranger.received, stranger.connection.get());
  std::string line;
  if (take_line(stranger.received, line)) return greet(line, index, on_line);
  if (reading == Reading::ended || stranger.received.size() > longest_greeting)
    strangers_.erase(strangers_.begin() + static_cast<std::ptrdiff_t>(index));
  return {};
}

/// A line from a connection that has not said yet whose it is. Those without the token are turned away in
/// silence; a rank that fails before its hello is known by the end of its process.
Status Group::greet(const std::string& line, std::size_t index, const OnLine& on_line) {
  Stranger stranger = std::move(strangers_[index]);
  strangers_.erase(strangers_.begin() + static_cast<std::ptrdiff_t>(index));
  std::istringstream words(line);
  std::string kind, token;
  std::int64_t number = -1;
  std::int64_t pid = -1;
  if (!(words >> kind >> token >> number >> pid) || kind != "hello" || token != driver_.meeting().token)
    return {};
  if (number < 0 || number >= static_cast<std::int64_t>(ranks_.size()) ||
      ranks_[static_cast<std::size_t>(number)].connection.valid())
    return Error{ErrorCode::corrupt,
                 concat("contender ", name_, ": a second rank ", number, " has come, or one too many")};
  Rank& rank = ranks_[static_cast<std::size_t>(number)];
  rank.connection = std::move(stranger.connection);
  rank.received = std::move(stranger.received);
  rank.pid = static_cast<pid_t>(pid);
  for (const auto& [from, shared] : shared_) PACELINE_TRY(send(static_cast<int>(number), shared));
  return take_lines(static_cast<int>(number), on_line);  // what came along with the hello
}

Status Group::read_rank(int number, const OnLine& on_line) {
  Rank& rank = ranks_[static_cast<std::size_t>(number)];
  rank.ended = read_into(rank.received, rank.connection.get()) == Reading::ended;
  return take_lines(number, on_line);
}

Status Group::take_lines(int number, const OnLine& on_line) {
  Rank& rank = ranks_[static_cast<std::size_t>(number)];
  for (std::string line; take_line(rank.received, line);) {
    if (line.rfind("error ", 0) == 0)
      rank.error = line.substr(6);
    else
      PACELINE_TRY(on_line(number, line));
  }
  if (rank.received.size() > longest_line)
    return Error{ErrorCode::corrupt, concat(name_of(number), " says more than was asked")};
  return {};
}

Status Group::send(int rank, const std::string& line) {
  const std::string text = line + "\n";
  const int connection = ranks_[static_cast<std::size_t>(rank)].connection.get();
  if (::send(connection, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT) ==
      static_cast<ssize_t>(text.size()))
    return {};
  return explain_loss(rank);
}

}  // namespace paceline::bench

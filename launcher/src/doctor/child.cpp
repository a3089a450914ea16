#include "doctor/child.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <thread>

#include "paceline/base/text.hpp"
#include "worker_process.hpp"

namespace paceline::doctor {
namespace {

constexpr Duration turn = std::chrono::milliseconds(2);
constexpr Duration kill_limit = std::chrono::seconds(1);
constexpr Duration exit_limit = std::chrono::seconds(5);

/// What the parent has open is nothing to a child that may live longer than it.
void keep_only(int one, int other) {
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null, fd);
  const auto first = static_cast<unsigned>(std::min(one, other));
  const auto second = static_cast<unsigned>(std::max(one, other));
  if (first > 3) ::close_range(3, first - 1, 0);
  if (second > first + 1) ::close_range(first + 1, second - 1, 0);
  ::close_range(second + 1, ~0U, 0);
}

std::string how_it_failed(const Error& error, Duration limit) {
  if (error.code == ErrorCode::timeout) return concat("no answer within ", to_seconds(limit), " s");
  return concat("broke off (", error.message, ")");
}

}  // namespace

void Child::Side::say(const std::string& line) const {
  [[maybe_unused]] const Status ignored = write_all(output, line + "\n", "the parent");
}

void Child::Side::await_parent() const {
  std::array<char, 16> ignored{};
  while (true) {
    const ssize_t got = ::read(input, ignored.data(), ignored.size());
    if (got == 0 || (got < 0 && errno != EINTR)) return;
  }
}

Result<Child> Child::start(const Work& work) {
  std::array<int, 2> down{}, up{};
  if (::pipe2(down.data(), O_CLOEXEC) != 0) return system_error("cannot make a pipe");
  UniqueFd child_input(down[0]), input(down[1]);
  if (::pipe2(up.data(), O_CLOEXEC) != 0) return system_error("cannot make a pipe");
  UniqueFd output(up[0]), child_output(up[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("cannot start a process");
  if (pid > 0) return Child(pid, std::move(input), std::move(output));
  keep_only(child_input.get(), child_output.get());
  work({child_input.get(), child_output.get()});
  ::_exit(0);
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      status_(other.status_),
      input_(std::move(other.input_)),
      output_(std::move(other.output_)),
      heard_(std::move(other.heard_)) {
}

Result<std::optional<std::string>> Child::next_line(const Deadline& deadline, StopSignals& signals) {
  std::array<char, 4096> block{};
  while (signals.first() == 0) {
    if (const std::size_t end = heard_.find('\n'); end != std::string::npos) {
      std::string line = heard_.substr(0, end);
      heard_.erase(0, end + 1);
      return std::optional(std::move(line));
    }
    std::array<pollfd, 2> entries = {{{output_.get(), POLLIN, 0}, {signals.fd(), POLLIN, 0}}};
    ::poll(entries.data(), entries.size(), deadline.left_ms());
    if (entries[1].revents != 0 && signals.take() != 0) break;
    if (entries[0].revents == 0) {
      if (deadline.passed()) return Error{ErrorCode::timeout, "it did not end in time"};
      continue;
    }
    const ssize_t got = ::read(output_.get(), block.data(), block.size());
    if (got > 0)
      heard_.append(block.data(), static_cast<std::size_t>(got));
    else if (got == 0 || errno != EINTR)
      return how_it_ended(deadline);
  }
  return Error{ErrorCode::aborted, "stopped by a signal"};
}

Result<std::optional<std::string>> Child::how_it_ended(const Deadline& deadline) {
  while (!reap()) {
    if (deadline.passed()) return Error{ErrorCode::timeout, "it did not end in time"};
    std::this_thread::sleep_for(turn);
  }
  if (status_ != 0) return Error{ErrorCode::peer_lost, concat("it ", describe_end(status_))};
  return std::optional<std::string>();
}

bool Child::reap() {
  if (pid_ > 0 && ::waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = -1;
  return pid_ < 0;
}

bool Child::await_end(Duration patience) {
  const SteadyClock clock;
  const Deadline deadline(clock, patience);
  while (!reap() && !deadline.passed()) std::this_thread::sleep_for(turn);
  return reap();
}

void Child::end(Duration patience) {
  input_.reset();
  if (await_end(patience)) return;
  ::kill(pid_, SIGKILL);
  [[maybe_unused]] const bool stuck = !await_end(kill_limit);
}

void Child::finish(Duration patience) {
  input_.reset();
  [[maybe_unused]] const bool ended = await_end(patience);
  pid_ = -1;
}

Result<std::string> in_child(const std::function<std::string()>& work, Duration limit, StopSignals& signals) {
  const SteadyClock clock;
  const Deadline deadline(clock, limit);
  PACELINE_ASSIGN(Child child, Child::start([&](const Child::Side& side) { side.say(work()); }));
  PACELINE_ASSIGN(std::optional<std::string> line, child.next_line(deadline, signals));
  child.end(exit_limit);
  if (!line) return Error{ErrorCode::peer_lost, "it said nothing"};
  return *std::move(line);
}

void run_group(const Group& group, StopSignals& signals, const Sink& sink) {
  const SteadyClock clock;
  const Deadline deadline(clock, group.limit);
  const auto work = [&group](const Child::Side& side) {
    group.work([&side](const Check& check) { side.say(to_json(check)); });
  };
  Result<Child> child = Child::start(work);
  if (!child.ok()) return sink(problem(group.name, child.error().message, group.mend));
  std::string last;
  while (true) {
    const Result<std::optional<std::string>> line = child->next_line(deadline, signals);
    if (line.ok() && !*line) return;
    const Result<Check> check = line.ok() ? parse_check(**line) : Result<Check>(line.error());
    if (check.ok()) {
      last = check->name;
      sink(*check);
      continue;
    }
    if (group.cleans_up) child->finish(Duration::zero());
    if (check.error().code == ErrorCode::aborted) return;
    return sink(problem(group.name,
                        concat(how_it_failed(check.error(), group.limit),
                               last.empty() ? "" : concat(", after the check of ", last)),
                        group.mend));
  }
}

}  // namespace paceline::doctor

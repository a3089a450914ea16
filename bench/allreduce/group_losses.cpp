// How a group finds out, and says, that one of its ranks is gone.

#include <poll.h>
#include <sys/wait.h>

#include <algorithm>

#include "allreduce/group.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

const SteadyClock steady_clock;
constexpr Duration time_to_explain = std::chrono::seconds(1);
constexpr std::size_t lines_of_last_words = 5;
constexpr std::size_t log_limit_bytes = std::size_t{16} << 20;

std::string seconds_text(Duration duration) {
  return concat(to_seconds(duration), " s");
}

}  // namespace

/// A rank that ended in silence comes before those that complain about it, which may be heard first.
Status Group::look_for_losses() {
  const auto complains = [](const Rank& rank) { return !rank.error.empty(); };
  const auto complainer = std::find_if(ranks_.begin(), ranks_.end(), complains);
  if (complainer != ranks_.end()) listen_once_more();
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank)
    if (ranks_[rank].ended && ranks_[rank].error.empty()) return explain_loss(static_cast<int>(rank));
  if (complainer != ranks_.end())
    return Error{ErrorCode::peer_lost,
                 concat(name_of(static_cast<int>(complainer - ranks_.begin())), ": ", complainer->error)};
  for (std::size_t i = 0; i < processes_.size(); ++i) {
    siginfo_t info{};
    if (!ends_[i].empty() ||
        ::waitid(P_PID, static_cast<id_t>(processes_[i].pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
        info.si_pid == 0)
      continue;
    reap(i, Deadline(steady_clock, Duration::zero()));
    return Error{ErrorCode::peer_lost, concat("contender ", name_, ": ", processes_[i].program,
                                              " ended with ", ends_[i], "; ", last_words())};
  }
  return {};
}

/// Gives those that are lost the time to be seen. Nobody will be asked again, so that other lines do not
/// matter.
void Group::listen_once_more() {
  ::poll(nullptr, 0, 20);
  const OnLine ignore = [](int, const std::string&) { return Status{}; };
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    if (!ranks_[rank].connection.valid() || ranks_[rank].ended) continue;
    [[maybe_unused]] const Status read = read_rank(static_cast<int>(rank), ignore);
  }
}

/// A connection has ended, and its process or its launcher is about to tell why.
Error Group::explain_loss(int rank) {
  const Rank& lost = ranks_[static_cast<std::size_t>(rank)];
  if (!lost.error.empty()) return {ErrorCode::peer_lost, concat(name_of(rank), ": ", lost.error)};
  const bool own_process = processes_.size() == ranks_.size();
  const std::size_t process = own_process ? static_cast<std::size_t>(rank) : 0;
  reap(process, Deadline(steady_clock, time_to_explain));
  std::string how = ends_[process];
  if (!own_process && !how.empty()) how = concat("its launcher ", processes_[0].program, " ended with ", how);
  return {ErrorCode::peer_lost,
          concat(name_of(rank), " ended", how.empty() ? "" : concat(" (", how, ")"), "; ", last_words())};
}

Error Group::too_slow(const std::string& what, Duration limit, const std::vector<bool>& done) const {
  std::string missing;
  for (std::size_t rank = 0; rank < done.size(); ++rank)
    if (!done[rank]) missing += concat(missing.empty() ? "" : ", ", rank);
  return {ErrorCode::timeout, concat("contender ", name_, " took longer than ", seconds_text(limit), " ",
                                     what, " (not done: rank ", missing,
                                     ") and is killed: give it more with --timeout; ", last_words())};
}

std::string Group::name_of(int rank) const {
  const pid_t pid = ranks_[static_cast<std::size_t>(rank)].pid;
  const Host* host = placement_.host_of(rank);
  return concat("contender ", name_, ": rank ", rank, host != nullptr ? concat(" on ", host->name) : "",
                pid > 0 ? concat(" (pid ", pid, ")") : "");
}

std::string Group::last_words() const {
  if (processes_.empty()) return "it said nothing";
  const Result<std::string> text = read_file(processes_.front().output_file, log_limit_bytes);
  if (!text.ok() || text->empty()) return "it said nothing";
  std::vector<std::string> lines;
  for (std::string line : split(*text, '\n')) {
    for (char& c : line)
      if (static_cast<unsigned char>(c) < ' ') c = '?';
    if (line.find_first_not_of("- ") != std::string::npos) lines.push_back(std::move(line));
  }
  std::string words = "it said last";
  const std::size_t first = lines.size() > lines_of_last_words ? lines.size() - lines_of_last_words : 0;
  for (std::size_t i = first; i < lines.size(); ++i) words += concat(i == first ? ": " : " / ", lines[i]);
  return words;
}

/// Waits for the end of a process until the deadline, and notes how it ended.
void Group::reap(std::size_t process, const Deadline& deadline) {
  if (!ends_[process].empty()) return;
  pollfd wait = {processes_[process].pid_fd.get(), POLLIN, 0};
  while (::poll(&wait, 1, deadline.left_ms()) < 0 && errno == EINTR) continue;
  int status = 0;
  if (::waitpid(processes_[process].pid, &status, WNOHANG) == processes_[process].pid)
    ends_[process] = describe_status(status);
}

}  // namespace paceline::bench

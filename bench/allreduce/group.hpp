#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "allreduce/recipes.hpp"
#include "paceline/base/clock.hpp"

namespace paceline::bench {

/// What all contenders of a run share with the driver. One thread; catches SIGINT, SIGTERM and SIGHUP from
/// its making on, so that they end waits in place of the process.
class Driver {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Driver>> make(const Placement& placement);
  /// Kills whatever contenders have left, and removes their files.
  ~Driver();
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  [[nodiscard]] const Meeting& meeting() const noexcept { return meeting_; }
  [[nodiscard]] int listener() const noexcept { return listener_.get(); }
  [[nodiscard]] int signals() const noexcept { return signals_.get(); }
  /// The signal that has come, or 0; stays.
  [[nodiscard]] int take_signal() noexcept;

 private:
  explicit Driver(ScratchFolder folder) : folder_(std::move(folder)) {}

  ScratchFolder folder_;
  Meeting meeting_;
  UniqueFd listener_;
  UniqueFd signals_;
  int signal_ = 0;
};

/// The ranks of one contender, each behind its connection, asleep until it is asked. An error names the
/// contender, the rank and what it said last, and ends the group's use. Every wait ends after `limit`.
class Group {
 public:
  /// Starts the processes and returns when all ranks are ready. `driver` is not owned and outlives the group.
  [[nodiscard]] static Result<std::unique_ptr<Group>> start(Driver& driver, const Recipe& recipe,
                                                            const Placement& placement, Duration limit);

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  /// Durations of `batches` batches of `repeat` sums: [rank][batch], in ns for the whole batch.
  [[nodiscard]] Result<std::vector<std::vector<double>>> time(std::uint64_t bytes, int repeat, int batches,
                                                              Duration limit);
  /// Elements that come out wrong, over all ranks.
  [[nodiscard]] Result<std::uint64_t> count_errors(std::uint64_t bytes, double tolerance, Duration limit);
  /// Lets the ranks go and waits for the end of their processes.
  [[nodiscard]] Status quit(Duration limit);

 private:
  struct Rank {
    UniqueFd connection;
    std::string received;  ///< after the last whole line
    pid_t pid = -1;        ///< on its host
    bool ready = false;
    bool ended = false;
    std::string error;  ///< what it said before it went
  };
  struct Stranger {
    UniqueFd connection;
    std::string received;
  };
  using OnLine = std::function<Status(int rank, const std::string& line)>;

  Group(Driver& driver, std::string name, const Placement& placement);
  [[nodiscard]] Status start_processes(const Recipe& recipe);
  [[nodiscard]] Status meet(Duration limit);
  [[nodiscard]] Status greet(const std::string& line, std::size_t stranger, const OnLine& on_line);
  [[nodiscard]] Status relay(int from, const std::string& line);
  [[nodiscard]] Status ask(const std::string& line, const OnLine& on_answer, Duration limit);
  [[nodiscard]] Status poll_once(const Deadline& deadline, const OnLine& on_line);
  [[nodiscard]] Status send(int rank, const std::string& line);
  void accept_stranger();
  [[nodiscard]] Status read_stranger(std::size_t index, const OnLine& on_line);
  [[nodiscard]] Status read_rank(int rank, const OnLine& on_line);
  [[nodiscard]] Status take_lines(int rank, const OnLine& on_line);
  [[nodiscard]] Status look_for_losses();
  void listen_once_more();
  [[nodiscard]] Error explain_loss(int rank);
  [[nodiscard]] Error too_slow(const std::string& what, Duration limit, const std::vector<bool>& done) const;
  [[nodiscard]] std::string name_of(int rank) const;
  [[nodiscard]] std::string last_words() const;
  void reap(std::size_t process, const Deadline& deadline);

  Driver& driver_;
  std::string name_;
  const Placement& placement_;
  std::vector<Process> processes_;
  std::vector<std::string> ends_;  ///< by process: how it ended; empty while it runs
  std::vector<Rank> ranks_;
  std::vector<Stranger> strangers_;
  std::vector<std::pair<int, std::string>> shared_;  ///< what ranks have shared so far, and who
};

}  // namespace paceline::bench

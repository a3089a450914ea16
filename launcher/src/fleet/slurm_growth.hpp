#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "fleet/connection.hpp"
#include "paceline/base/clock.hpp"

namespace paceline {

/// When to ask for more nodes: pure, and told the time.
class GrowthRate {
 public:
  struct Limits {
    Duration lasts = std::chrono::seconds(10);    ///< a shortage that is shorter may mend itself
    Duration between = std::chrono::seconds(60);  ///< from one request to the next
    Duration most_between =
        std::chrono::hours(1);  ///< the pause doubles with each request that came to nothing
  };
  explicit GrowthRate(const Limits& limits) : limits_(limits), between_(limits.between) {}

  /// Whether to ask now. `shortage`: of ranks that have no place; 0 or less: none.
  [[nodiscard]] bool is_due(std::int64_t shortage, Instant now);
  void asked(Instant now) { asked_at_ = now; }
  /// What became of it: nodes that joined, or nothing.
  void came_to(bool anything);

 private:
  Limits limits_;
  Duration between_;
  std::optional<Instant> short_since_, asked_at_;
};

/// Asks Slurm for more nodes while the job has fewer places than it would like to have ranks: submits
/// grow.sbatch, one job at a time. One that still waits in the queue when it is not needed any more, or when
/// this ends, is cancelled. Does not wait for Slurm, but at its end.
class SlurmGrowth {
 public:
  /// `options`: of sbatch. `cores`: that a node is thought to have.
  SlurmGrowth(std::string options, std::int64_t cores);
  ~SlurmGrowth();
  SlurmGrowth(const SlurmGrowth&) = delete;
  SlurmGrowth& operator=(const SlurmGrowth&) = delete;

  /// The run that the nodes are to join. Nothing is asked for before.
  void begin(const std::string& run_dir) { run_dir_ = run_dir; }
  /// Call often. `shortage`: of ranks, asked for seldom; nothing where nobody knows. Gives news for people.
  [[nodiscard]] std::vector<std::string> attend(const std::function<std::optional<std::int64_t>()>& shortage);

 private:
  enum class Kind { submission, state, cancellation };
  struct Question {
    Kind kind;
    Connection connection;
    std::vector<std::string> lines;
    Instant since;
  };
  struct Answer {
    Kind kind;
    std::optional<int> status;  ///< nothing: there was no end in time
    std::vector<std::string> lines;
    std::string words;  ///< on standard error
  };
  void ask(std::optional<Question>& question, Kind kind, const std::vector<std::string>& command);
  [[nodiscard]] std::optional<Answer> take_answer(std::optional<Question>& question);
  void await(std::optional<Question>& question, Duration limit);
  void look(std::int64_t shortage, std::vector<std::string>& news);
  void submit(std::int64_t shortage, std::vector<std::string>& news);
  void hear_of_submission(const Answer& answer, std::vector<std::string>& news);
  void hear(const Answer& answer);
  void cancel();

  std::string options_;
  std::int64_t cores_;
  std::string interface_;  // of the nodes; this process's own may become another
  std::string run_dir_;
  SteadyClock clock_;
  Duration interval_;
  Instant looked_at_;
  GrowthRate rate_;
  std::string request_;          // the name of the job that was asked for; empty: there is none
  bool waits_ = false;           // it is in the queue, as far as is known
  bool cancelling_ = false;      // it was tried at least once
  std::int64_t most_short_ = 0;  // ranks that had no place, at most, since then
  std::optional<Question> submission_, question_;
};

/// What is to join a run.
struct GrowRequest {
  std::string script;     ///< grow.sbatch
  std::string program;    ///< this one, absolute
  std::string interface;  ///< for PACELINE_INTERFACE there
  std::string options;    ///< of sbatch, which come after ours
  std::int64_t nodes = 1;
  std::string run_dir;
  std::string name;  ///< of the job
};
[[nodiscard]] std::vector<std::string> grow_command(const GrowRequest& request);

}  // namespace paceline

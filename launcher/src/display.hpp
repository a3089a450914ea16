#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "paceline/base/clock.hpp"
#include "paceline/job/protocol.hpp"

namespace paceline {

/// What a person sees of a run: a progress bar on a terminal, plain lines elsewhere. News goes to standard
/// output, trouble to standard error. A reader who pauses is waited for once, for a second, and then misses
/// lines until it reads again: the agent and its workers must not be held up.
class Display {
 public:
  struct Options {
    bool quiet = false;   ///< only trouble is shown
    bool silent = false;  ///< as quiet; and no warnings: another agent gives them
    bool plain = false;   ///< no bar even on what looks like a terminal: mpirun gives its processes one
    bool epochs = true;   ///< false: no progress and no epoch's line, where there are no epochs
    int news_fd = 1;
    int trouble_fd = 2;
  };
  explicit Display(const Options& options);
  ~Display();
  Display(const Display&) = delete;
  Display& operator=(const Display&) = delete;

  void line(std::string_view text);
  void warning(std::string_view text);
  /// One sentence; any number of lines after it.
  void error(std::string_view text);
  void progress(const ProgressMessage& message, Instant now);
  void eval(const EvalMessage& message);
  /// No bar any more: what comes now is the end.
  void end_progress();

 private:
  void write(int fd, std::string_view text);
  void draw_bar();
  void clear_bar();
  void finish_epoch(std::int64_t epoch);
  /// The mean over the epoch, if that is the one in progress.
  [[nodiscard]] std::string train_loss(std::int64_t epoch) const;

  Options options_;
  bool terminal_;
  bool bar_is_drawn_ = false;
  bool reader_pauses_ = false;
  std::optional<ProgressMessage> last_;
  std::optional<Instant> last_shown_;
  std::int64_t finished_epoch_ = 0;  ///< the last one that has its line
};

}  // namespace paceline

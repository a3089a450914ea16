#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "paceline/base/fd.hpp"

namespace paceline::bench {

/// A program to start beside this one.
struct Command {
  std::vector<std::string> arguments;              ///< the first is the program, looked for in PATH
  std::map<std::string, std::string> environment;  ///< on top of ours
  std::string output_file;                         ///< its standard output and error
  std::vector<int> cpus{};                         ///< that it may run on; empty: all that we may
  int signal_when_orphaned = 9;                    ///< what it gets when this process dies
};

/// A child process. Does not end it: Processes does that for all that this program has started.
struct Process {
  pid_t pid = -1;
  UniqueFd pid_fd;  ///< readable when it has ended
  std::string program;
  std::string output_file;
};

/// Starts it in a process group of its own. A program that cannot be executed ends with status 127 and says
/// why in its output.
[[nodiscard]] Result<Process> start(const Command& command);

/// What is behind a wait status: "exit status 3", "signal 9 (Killed)".
[[nodiscard]] std::string describe_status(int status);

/// SIGINT, SIGTERM and SIGHUP are read from it from now on, without waiting, and end nothing by themselves.
[[nodiscard]] Result<UniqueFd> catch_signals();

/// From now on the descendants of this process that lose their parent become its children, so that
/// kill_descendants finds them wherever their launcher has put them.
[[nodiscard]] Status adopt_orphans();

/// Kills and reaps every descendant of this process but `spared`, until none is left or 10 s are over.
void kill_descendants(pid_t spared);

/// A folder for what contenders have to keep in files. A process of its own removes it, and all in
/// it, when this one ends, even by SIGKILL.
class ScratchFolder {
 public:
  /// In memory, where there is some.
  [[nodiscard]] static Result<ScratchFolder> make();
  [[nodiscard]] static Result<ScratchFolder> make_in(const std::string& parent);
  ScratchFolder(ScratchFolder&&) = default;
  ScratchFolder& operator=(ScratchFolder&&) = delete;
  ~ScratchFolder();

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] pid_t keeper() const noexcept { return keeper_; }

 private:
  ScratchFolder() = default;

  std::string path_;
  UniqueFd end_;  ///< its closing is the keeper's signal
  pid_t keeper_ = -1;
};

}  // namespace paceline::bench

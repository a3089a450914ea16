#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "paceline/base/clock.hpp"
#include "paceline/base/fd.hpp"
#include "worker_output.hpp"

namespace paceline {

/// A program that starts something on other machines, such as ssh or srun, with its input and output. Its
/// input is closed when this ends, and it is killed where it does not end by itself. One thread.
class Connection {
 public:
  /// `name`: for people, what it leads to. In a process group of its own, so that a terminal's signals do not
  /// reach it. not_found where there is no such program.
  [[nodiscard]] static Result<Connection> start(std::string name, const std::vector<std::string>& command);
  Connection(Connection&& other) noexcept;
  Connection& operator=(Connection&&) = delete;
  ~Connection();

  /// To poll for reading; -1: closed.
  [[nodiscard]] int output_fd() const noexcept { return output_.get(); }
  [[nodiscard]] int error_fd() const noexcept { return error_.get(); }
  /// Hands on what has come, line by line, without waiting: its output, and what it says on standard error.
  void read(const std::function<void(const std::string& line)>& said,
            const std::function<void(const std::string& line)>& complained);
  /// All of it, with a line break. peer_lost where nobody reads.
  [[nodiscard]] Status write_line(const std::string& line);
  /// An empty line, if it can be had without waiting.
  void mention();
  void close_input() { input_.reset(); }
  /// What waitpid gave, once it has ended.
  [[nodiscard]] std::optional<int> ended();
  void signal(int number) const;

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  /// The last lines of its standard error.
  [[nodiscard]] std::deque<std::string> last_words() const { return words_.lines(); }
  /// The same in one line, without what srun always says.
  [[nodiscard]] std::string words() const;

 private:
  struct Lines {
    std::string unfinished;
    void add(std::string_view bytes, const std::function<void(const std::string& line)>& hand_on);
  };
  Connection(std::string name, pid_t pid, UniqueFd input, UniqueFd output, UniqueFd error);

  std::string name_;
  pid_t pid_ = -1;  // -1: it was waited for, or this was moved from
  std::optional<int> status_;
  UniqueFd input_, output_, error_;
  Lines out_lines_, error_lines_;
  LastLines words_;
};

/// Waits at most `limit_ms` for something to come, and hands on all that has.
using HearLine = std::function<void(const Connection& connection, const std::string& line)>;
void read_all(std::vector<Connection>& connections, int limit_ms, const HearLine& said,
              const HearLine& complained);

}  // namespace paceline

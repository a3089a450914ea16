#include "fleet/connection.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <thread>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::size_t most_words = 10;
constexpr std::size_t longest_line = std::size_t{1} << 20;
constexpr Duration end_limit = std::chrono::seconds(2);

struct Pipe {
  UniqueFd reading, writing;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error("cannot make a pipe");
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

Status do_not_wait(const UniqueFd& fd) {
  if (::fcntl(fd.get(), F_SETFL, O_NONBLOCK) != 0) return system_error("cannot set up a pipe");
  return {};
}

/// posix_spawn's two bags of settings.
struct SpawnSettings {
  posix_spawn_file_actions_t files{};
  posix_spawnattr_t attributes{};
  SpawnSettings() {
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawnattr_init(&attributes);
  }
  ~SpawnSettings() {
    ::posix_spawn_file_actions_destroy(&files);
    ::posix_spawnattr_destroy(&attributes);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
};

Result<pid_t> spawn_with(const std::vector<std::string>& command, int input, int output, int error) {
  SpawnSettings settings;
  ::posix_spawn_file_actions_adddup2(&settings.files, input, 0);
  ::posix_spawn_file_actions_adddup2(&settings.files, output, 1);
  ::posix_spawn_file_actions_adddup2(&settings.files, error, 2);
  ::posix_spawn_file_actions_addclosefrom_np(&settings.files, 3);
  sigset_t none, usual;
  ::sigemptyset(&none);
  ::sigemptyset(&usual);
  ::sigaddset(&usual, SIGPIPE);
  ::posix_spawnattr_setsigmask(&settings.attributes, &none);
  ::posix_spawnattr_setsigdefault(&settings.attributes, &usual);
  ::posix_spawnattr_setpgroup(&settings.attributes, 0);
  ::posix_spawnattr_setflags(&settings.attributes,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  pid_t pid = -1;
  const int failed =
      ::posix_spawnp(&pid, arguments[0], &settings.files, &settings.attributes, arguments.data(), ::environ);
  if (failed == ENOENT)
    return Error{ErrorCode::not_found, concat("there is no ", command[0], " on the path")};
  if (failed != 0) return system_error(concat("cannot start ", command[0]), failed);
  return pid;
}

/// What is there, without waiting; closes the descriptor at its end.
std::string read_some(UniqueFd& fd) {
  std::string bytes;
  std::array<char, 65536> block{};
  while (fd.valid() && bytes.size() < longest_line) {
    const ssize_t got = ::read(fd.get(), block.data(), block.size());
    if (got > 0) {
      bytes.append(block.data(), static_cast<std::size_t>(got));
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
      fd.reset();
    } else if (errno == EAGAIN) {
      break;
    }
  }
  return bytes;
}

}  // namespace

Result<Connection> Connection::start(std::string name, const std::vector<std::string>& command) {
  PACELINE_ASSIGN(Pipe input, make_pipe());
  PACELINE_ASSIGN(Pipe output, make_pipe());
  PACELINE_ASSIGN(Pipe error, make_pipe());
  PACELINE_TRY(do_not_wait(output.reading));
  PACELINE_TRY(do_not_wait(error.reading));
  PACELINE_ASSIGN(const pid_t pid,
                  spawn_with(command, input.reading.get(), output.writing.get(), error.writing.get()));
  return Connection(std::move(name), pid, std::move(input.writing), std::move(output.reading),
                    std::move(error.reading));
}

Connection::Connection(std::string name, pid_t pid, UniqueFd input, UniqueFd output, UniqueFd error)
    : name_(std::move(name)),
      pid_(pid),
      input_(std::move(input)),
      output_(std::move(output)),
      error_(std::move(error)),
      words_(most_words) {
}

Connection::Connection(Connection&& other) noexcept
    : name_(std::move(other.name_)),
      pid_(std::exchange(other.pid_, -1)),
      status_(other.status_),
      input_(std::move(other.input_)),
      output_(std::move(other.output_)),
      error_(std::move(other.error_)),
      out_lines_(std::move(other.out_lines_)),
      error_lines_(std::move(other.error_lines_)),
      words_(std::move(other.words_)) {
}

Connection::~Connection() {
  close_input();
  if (pid_ < 0) return;
  const SteadyClock clock;
  for (const int number : {SIGTERM, SIGKILL}) {
    if (ended()) return;
    signal(number);
    const Deadline deadline(clock, end_limit);
    while (!ended() && !deadline.passed()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

void Connection::Lines::add(std::string_view bytes,
                            const std::function<void(const std::string& line)>& hand_on) {
  unfinished += bytes;
  std::size_t begin = 0;
  for (std::size_t end; (end = unfinished.find('\n', begin)) != std::string::npos; begin = end + 1)
    hand_on(unfinished.substr(begin, end - begin));
  unfinished.erase(0, begin);
  if (unfinished.size() > longest_line) hand_on(std::exchange(unfinished, ""));
}

void Connection::read(const std::function<void(const std::string& line)>& said,
                      const std::function<void(const std::string& line)>& complained) {
  out_lines_.add(read_some(output_), said);
  const std::string complaint = read_some(error_);
  words_.add(complaint);
  error_lines_.add(complaint, complained);
}

Status Connection::write_line(const std::string& line) {
  if (!input_.valid()) return Error{ErrorCode::peer_lost, concat(name_, " is closed")};
  return write_all(input_.get(), line + "\n", name_);
}

void Connection::mention() {
  if (!input_.valid()) return;
  pollfd entry{input_.get(), POLLOUT, 0};
  // A pipe that can be written to has room for a page.
  if (::poll(&entry, 1, 0) == 1 && (entry.revents & POLLOUT) != 0 && ::write(input_.get(), "\n", 1) < 0 &&
      errno == EPIPE)
    input_.reset();
}

std::optional<int> Connection::ended() {
  int status = 0;
  if (pid_ > 0 && ::waitpid(pid_, &status, WNOHANG) == pid_) {
    status_ = status;
    pid_ = -1;
  }
  return status_;
}

void Connection::signal(int number) const {
  if (pid_ > 0) ::kill(-pid_, number);  // and what it has started here
}

std::string Connection::words() const {
  // Where nobody binds processes, so that there is nothing to switch off.
  constexpr std::string_view no_binding = "srun: cluster configuration lacks support for cpu binding";
  std::string text;
  for (const std::string& line : last_words())
    if (line != no_binding) text += concat(text.empty() ? "" : "; ", line);
  return text;
}

void read_all(std::vector<Connection>& connections, int limit_ms, const HearLine& said,
              const HearLine& complained) {
  std::vector<pollfd> entries;
  for (const Connection& connection : connections)
    for (const int fd : {connection.output_fd(), connection.error_fd()})
      if (fd >= 0) entries.push_back({fd, POLLIN, 0});
  ::poll(entries.data(), entries.size(), limit_ms);
  for (Connection& connection : connections)
    connection.read([&](const std::string& line) { said(connection, line); },
                    [&](const std::string& line) { complained(connection, line); });
}

}  // namespace paceline

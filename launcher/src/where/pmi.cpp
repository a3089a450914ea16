#include "where/pmi.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::size_t longest_answer = 4096;

/// One line, without its end.
Result<std::string> read_line(int fd, const Deadline& deadline) {
  std::string line;
  while (line.size() < longest_answer) {
    pollfd entry{fd, POLLIN, 0};
    if (::poll(&entry, 1, deadline.left_ms()) <= 0) {
      if (deadline.passed()) return Error{ErrorCode::timeout, "it does not answer"};
      continue;
    }
    char letter = 0;
    const ssize_t got = ::read(fd, &letter, 1);
    if (got == 0) return Error{ErrorCode::io, "it has closed the connection"};
    if (got < 0 && errno != EINTR) return system_error("cannot read");
    if (got > 0 && letter == '\n') return line;
    if (got > 0) line.push_back(letter);
  }
  return Error{ErrorCode::corrupt, "its answer has no end"};
}

/// The value of `key` in an answer "cmd=... key=value key=value"; empty where it is not there.
std::string value_of(const std::string& line, const std::string& key) {
  for (const std::string& word : split(line, ' '))
    if (word.starts_with(key + "=")) return word.substr(key.size() + 1);
  return "";
}

Result<std::string> ask(int fd, const std::string& request, const std::string& answer,
                        const Deadline& deadline) {
  // A request is far shorter than any socket's buffer; and a manager that is gone must not kill this process.
  const std::string message = request + "\n";
  if (::send(fd, message.data(), message.size(), MSG_NOSIGNAL) != std::ssize(message))
    return system_error("cannot write");
  PACELINE_ASSIGN(const std::string line, read_line(fd, deadline));
  if (value_of(line, "cmd") == answer) return line;
  return Error{ErrorCode::corrupt, concat("it answers ", shown(request), " with ", shown(line))};
}

}  // namespace

Result<std::string> pmi_job_name(int fd, Duration limit) {
  const SteadyClock clock;
  const Deadline deadline(clock, limit);
  PACELINE_TRY(ask(fd, "cmd=init pmi_version=1 pmi_subversion=1", "response_to_init", deadline));
  PACELINE_ASSIGN(const std::string answer, ask(fd, "cmd=get_my_kvsname", "my_kvsname", deadline));
  PACELINE_TRY(ask(fd, "cmd=finalize", "finalize_ack", deadline));
  const std::string name = value_of(answer, "kvsname");
  if (name.empty()) return Error{ErrorCode::corrupt, concat("its answer has no name: ", shown(answer))};
  return name;
}

}  // namespace paceline

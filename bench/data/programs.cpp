#include "data/programs.hpp"

#include <sys/wait.h>

#include <cerrno>
#include <filesystem>

#include "allreduce/process.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

constexpr std::size_t most_output_bytes = std::size_t{1} << 20;

std::string last_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);  // npos + 1 is 0: all of it
}

}  // namespace

std::string own_program() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).string();
}

std::string peer_file(const std::string& name) {
  return (std::filesystem::path(own_program()).parent_path() / "bench" / name).string();
}

Result<std::string> output_of(const std::vector<std::string>& arguments) {
  PACELINE_ASSIGN(const ScratchFolder folder, ScratchFolder::make());
  Command command;
  command.arguments = arguments;
  command.output_file = concat(folder.path(), "/output");
  PACELINE_ASSIGN(const Process process, start(command));
  int status = 0;
  while (::waitpid(process.pid, &status, 0) < 0)
    if (errno != EINTR) return system_error(concat("cannot wait for ", arguments.front()));
  PACELINE_ASSIGN(std::string output, read_file(command.output_file, most_output_bytes));
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return output;
  return Error{ErrorCode::io,
               concat(arguments.front(), ": ", describe_status(status), ": ", last_line(std::move(output)))};
}

}  // namespace paceline::bench

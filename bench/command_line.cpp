#include "command_line.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {

Status parse_arguments(CLI::App& app, std::vector<std::string> arguments) {
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  try {
    app.parse(arguments);
  } catch (const CLI::CallForHelp&) {
    return Error{ErrorCode::aborted, app.help()};
  } catch (const CLI::ParseError& problem) {
    std::string text = problem.what();
    std::replace(text.begin(), text.end(), '\n', ' ');
    return Error{ErrorCode::invalid_argument,
                 concat(text, "; `", app.get_name(), " --help` shows how it is used")};
  }
  return {};
}

Status check_json(const std::string& path) {
  return check_output("--json", path);
}

Status check_output(const std::string& option, const std::string& path) {
  if (path.empty()) return {};
  const bool existed = ::access(path.c_str(), F_OK) == 0;
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  if (!file.valid())
    return Error{ErrorCode::invalid_argument,
                 concat(option, ": ", system_error(path).message, ": name a file in a folder that exists")};
  if (!existed) ::unlink(path.c_str());
  return {};
}

}  // namespace paceline::bench

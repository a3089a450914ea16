#include "command_line.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>

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

}  // namespace paceline::bench

#pragma once

#include <string>
#include <vector>

#include "paceline/base/result.hpp"

namespace CLI {
class App;
}

namespace paceline::bench {

/// Lets `app`, which has the name of a whole command ("paceline bench data"), parse the arguments after it. A
/// request for help is an error with code aborted whose message is the help.
[[nodiscard]] Status parse_arguments(CLI::App& app, std::vector<std::string> arguments);

/// Of a file that `option` names: a path that cannot be written should not cost a run. None is right.
[[nodiscard]] Status check_output(const std::string& option, const std::string& path);
[[nodiscard]] Status check_json(const std::string& path);

}  // namespace paceline::bench

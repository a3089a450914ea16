#include "faults.hpp"

#include <unistd.h>

#include <algorithm>
#include <optional>

#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"

namespace paceline {

Result<Faults> Faults::from_environment(std::int64_t worker) {
  Faults faults;
  const std::optional<std::string> list = environment("PACELINE_FAULTS");
  if (!list) return faults;
  for (const std::string& entry : split(*list, ',')) {
    const std::size_t point = entry.find(':'), step = entry.find('@'), what = entry.rfind(':');
    const bool whole = point < step && step < what && what != std::string::npos;
    const auto of = parse_integer(entry.substr(0, point), 0, std::int64_t{1} << 62);
    const auto at = whole ? parse_integer(entry.substr(step + 1, what - step - 1), 0, std::int64_t{1} << 62)
                          : std::nullopt;
    const std::string action = whole ? entry.substr(what + 1) : "";
    if (!of || !at || (action != "kill" && action != "stop"))
      return Error{ErrorCode::invalid_argument,
                   concat("PACELINE_FAULTS has \"", entry, "\" where it must have WORKER:POINT@STEP:kill or ",
                          "WORKER:POINT@STEP:stop")};
    if (*of == worker)
      faults.faults_.push_back(
          {entry.substr(point + 1, step - point - 1), *at, action == "kill" ? SIGKILL : SIGSTOP});
  }
  return faults;
}

void Faults::look_up(std::string_view point, std::int64_t step) {
  const auto fault =
      std::ranges::find_if(faults_, [&](const Fault& one) { return one.point == point && step >= one.step; });
  if (fault == faults_.end()) return;
  const int signal = fault->signal;
  faults_.erase(fault);
  log(LogLevel::warning, concat("PACELINE_FAULTS: signal ", signal, " at ", point, " of step ", step));
  ::kill(::getpid(), signal);
}

}  // namespace paceline

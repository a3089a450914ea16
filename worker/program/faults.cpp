#include "faults.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <thread>

#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"

namespace paceline {

/// The worker that it is for, and the fault; nothing where it isn't written as it must be.
std::optional<std::pair<std::int64_t, Faults::Fault>> Faults::parse(const std::string& entry) {
  constexpr std::int64_t most = std::int64_t{1} << 62;
  const std::size_t point = entry.find(':'), step = entry.find('@'), what = entry.rfind(':');
  if (!(point < step && step < what) || what == std::string::npos) return std::nullopt;
  const std::vector<std::string> steps = split(entry.substr(step + 1, what - step - 1), '-');
  const std::vector<std::string> action = split(entry.substr(what + 1), '=');
  const auto worker = parse_integer(entry.substr(0, point), 0, most);
  const auto first = parse_integer(steps.front(), 0, most);
  const auto last = parse_integer(steps.back(), 0, most);
  const bool waits = action.front() == "wait";
  const auto wait_ms = waits ? parse_integer(action.back(), 1, 3'600'000) : std::optional<std::int64_t>(0);
  const bool known = waits || action.front() == "kill" || action.front() == "stop";
  if (!known || steps.size() > 2 || waits != (steps.size() == 2) || action.size() != (waits ? 2U : 1U))
    return std::nullopt;
  if (!worker || !first || !last || *last < *first || !wait_ms) return std::nullopt;
  return std::pair(*worker, Fault{entry.substr(point + 1, step - point - 1), *first, *last, *wait_ms,
                                  action.front() == "kill" ? SIGKILL : SIGSTOP});
}

Result<Faults> Faults::from_environment(std::int64_t worker) {
  Faults faults;
  const std::optional<std::string> list = environment("PACELINE_FAULTS");
  if (!list) return faults;
  for (const std::string& entry : split(*list, ',')) {
    auto fault = parse(entry);
    if (!fault)
      return Error{ErrorCode::invalid_argument,
                   concat("PACELINE_FAULTS has \"", entry, "\" where it must have WORKER:POINT@STEP:kill, ",
                          "WORKER:POINT@STEP:stop or WORKER:POINT@FIRST-LAST:wait=MS")};
    if (fault->first == worker) faults.faults_.push_back(std::move(fault->second));
  }
  return faults;
}

void Faults::look_up(std::string_view point, std::int64_t step) {
  const auto is_due = [&](const Fault& one) {
    return one.point == point && step >= one.step && (one.wait_ms == 0 || step <= one.last);
  };
  const auto fault = std::ranges::find_if(faults_, is_due);
  if (fault == faults_.end()) return;
  if (fault->wait_ms > 0) return std::this_thread::sleep_for(std::chrono::milliseconds(fault->wait_ms));
  const int signal = fault->signal;
  faults_.erase(fault);
  log(LogLevel::warning, concat("PACELINE_FAULTS: signal ", signal, " at ", point, " of step ", step));
  ::kill(::getpid(), signal);
}

}  // namespace paceline

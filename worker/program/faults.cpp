#include "faults.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <thread>

#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"

namespace paceline {

namespace {

/// As long as it may wait for a file, in milliseconds.
constexpr std::int64_t longest_wait_ms = 3'600'000;

void wait_for_file(const std::string& file) {
  using namespace std::chrono_literals;
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(longest_wait_ms);
  while (::access(file.c_str(), F_OK) != 0 && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(5ms);
}

}  // namespace

/// Nothing where it isn't written as it must be.
std::optional<Faults::Fault> Faults::parse(const std::string& entry) {
  constexpr std::int64_t most = std::int64_t{1} << 62;
  const std::size_t point = entry.find(':'), step = entry.find('@'), what = entry.rfind(':');
  if (!(point < step && step < what) || what == std::string::npos) return std::nullopt;
  Fault fault;
  fault.point = entry.substr(point + 1, step - point - 1);
  if (const std::string worker = entry.substr(0, point); worker != "*") {
    fault.worker = parse_integer(worker, 0, most);
    if (!fault.worker) return std::nullopt;
  }
  const std::vector<std::string> steps = split(entry.substr(step + 1, what - step - 1), '-');
  const auto first = parse_integer(steps.front(), 0, most);
  const auto last = parse_integer(steps.back(), 0, most);
  if (!first || !last || *last < *first || steps.size() > 2) return std::nullopt;
  fault.step = *first;
  fault.last = *last;

  const std::vector<std::string> action = split(entry.substr(what + 1), '=');
  const std::string& name = action.front();
  if (name == "wait" && action.size() == 2 && steps.size() == 2) {
    fault.wait_ms = parse_integer(action.back(), 1, longest_wait_ms).value_or(0);
    return fault.wait_ms > 0 ? std::optional(fault) : std::nullopt;
  }
  if (steps.size() != 1) return std::nullopt;
  if (name == "until" && action.size() == 2 && !action.back().empty()) {
    fault.file = action.back();
    return fault;
  }
  if (action.size() != 1 || (name != "kill" && name != "stop")) return std::nullopt;
  fault.signal = name == "kill" ? SIGKILL : SIGSTOP;
  return fault;
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
                          "WORKER:POINT@STEP:stop, WORKER:POINT@STEP:until=FILE or ",
                          "WORKER:POINT@FIRST-LAST:wait=MS")};
    if (fault->worker.value_or(worker) == worker) faults.faults_.push_back(*std::move(fault));
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
  const Fault once = *fault;
  faults_.erase(fault);
  if (!once.file.empty()) return wait_for_file(once.file);
  log(LogLevel::warning, concat("PACELINE_FAULTS: signal ", once.signal, " at ", point, " of step ", step));
  ::kill(::getpid(), once.signal);
}

}  // namespace paceline

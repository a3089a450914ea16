#pragma once

#include <optional>
#include <string>

#include "paceline/job/job.hpp"

namespace paceline {

/// Most ranks that anybody may ask for; beyond it a number is a slip of the keyboard.
inline constexpr std::int64_t most_ranks = 4096;

/// `--ranks`: a number; nothing where it was not given. A:B is for elastic jobs and is refused.
[[nodiscard]] Result<std::optional<std::int64_t>> parse_ranks(const std::string& text);

/// Grains in one full step of this job with so many ranks.
[[nodiscard]] std::int64_t step_grains(const Job& job, std::int64_t ranks);

/// An error where `ranks` is outside the job's limits or above the grains of a step.
[[nodiscard]] Status check_ranks(const Job& job, std::int64_t ranks);

/// As many ranks as cores, within the job's limits, and no more than there are grains.
[[nodiscard]] std::int64_t default_ranks(const Job& job, std::int64_t cores);

}  // namespace paceline

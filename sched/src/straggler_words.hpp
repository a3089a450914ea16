#pragma once

#include <string>

#include "paceline/sched/straggler_detector.hpp"

namespace paceline {

/// Of a step: what is divided by isn't less.
inline constexpr double least_part = 0.01;

/// What it is called while nothing more is known.
[[nodiscard]] StragglerCause cause_of(StepPart part) noexcept;

/// Of an event that began; `ranks`: where all are meant, how many those are.
[[nodiscard]] std::string sentence_of(const StragglerEvent& event, std::size_t ranks = 0);
/// Of one that ended.
[[nodiscard]] std::string sentence_of_end(const StragglerEvent& began, StragglerEnding how, double lasted_s);

}  // namespace paceline

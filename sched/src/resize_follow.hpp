#pragma once

#include <string>

#include "paceline/sched/resize_policy.hpp"

namespace paceline {

/// Moves all times of a state by `by_s`.
void shift_times(ResizeState& state, double by_s);

/// Takes the time in. Nothing, or how the clock jumped, in one sentence; what is remembered keeps its age
/// then.
[[nodiscard]] std::string keep_time(const ResizeRules& rules, ResizeState& state, double now_s,
                                    const ResizeFacts& facts);

/// Takes the time in where nothing else can be believed.
void pass_time(const ResizeRules& rules, ResizeState& state, double now_s);

/// Takes in what has happened since the last call, to resizes that were asked for and by other hands. Says
/// so where a resize has failed, or brought too little.
[[nodiscard]] std::string follow(const ResizeRules& rules, ResizeState& state, double now_s,
                                 const ResizeFacts& facts);

/// Whether enough steps were committed at the present size.
[[nodiscard]] bool is_measured(const ResizeRules& rules, const ResizeState& state, const ResizeFacts& facts);

/// Null: there is none of the present size.
[[nodiscard]] const SizeForecast* present_forecast(const ResizeFacts& facts);

/// Remembers that a resize was decided on.
void begin_trial(ResizeState& state, double now_s, const ResizeFacts& facts, const SizeForecast& target,
                 bool exploring);

}  // namespace paceline

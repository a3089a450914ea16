#pragma once

#include <string>

#include "paceline/base/result.hpp"
#include "paceline/sched/coordinator.hpp"

namespace paceline {

/// Puts RUN/generations/<number>.json in place: written beside it, synced, linked, the folder synced. Whoever
/// links a number first has it; `exists` is the answer to anybody else, and to a second try of one's own only
/// where the file isn't the same (P1).
[[nodiscard]] RecordWritten write_generation(const std::string& run_dir, const GenerationRecord& record);

/// The file's content.
[[nodiscard]] std::string generation_json(const GenerationRecord& record);

}  // namespace paceline

#pragma once

#include <string>
#include <vector>

#include "paceline/base/result.hpp"
#include "paceline/sched/coordinator.hpp"

namespace paceline {

/// Puts RUN/generations/<number>.json in place: written beside it, synced, linked, the folder synced. Whoever
/// links a number first has it; `exists` is the answer to anybody else, and to a second try of one's own only
/// where the file isn't the same (P1).
[[nodiscard]] RecordWritten write_generation(const std::string& run_dir, const GenerationRecord& record);

/// The records of all generations after `after`, by number.
[[nodiscard]] Result<std::vector<Generation>> read_generations(const std::string& run_dir,
                                                               std::int64_t after);

/// The file's content, and the reverse; `name` is for messages.
[[nodiscard]] Result<GenerationRecord> parse_generation(const std::string& text, const std::string& name);
[[nodiscard]] std::string generation_json(const GenerationRecord& record);

}  // namespace paceline

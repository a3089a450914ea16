#pragma once

#include <nlohmann/json.hpp>

#include "job_tree.hpp"
#include "paceline/base/result.hpp"
#include "paceline/job/job.hpp"

namespace paceline {

/// Keys stay in the order in which they were written, so that people can read what programs wrote.
using Json = nlohmann::ordered_json;

/// JSON from outside. Its errors start with `source`.
[[nodiscard]] Result<Json> parse_json(std::string_view text, std::string_view source);

/// Text of what a program made; strings that aren't UTF-8 are mended rather than refused.
[[nodiscard]] std::string dump_json(const Json& json, int indent);

[[nodiscard]] Json job_to_value(const Job& job);
/// What a job's JSON says, before anything of it is checked.
[[nodiscard]] Result<Tree> tree_from_value(const Json& json, const std::string& source);
[[nodiscard]] Result<Job> job_from_value(const Json& json, const std::string& source);

}  // namespace paceline

#pragma once

#include <string>
#include <vector>

#include "paceline/base/result.hpp"
#include "scaling/figures.hpp"

namespace paceline::bench {

/// What --compare reads of the --json of an earlier run.
struct EarlierRow {
  ScalingMode mode = ScalingMode::strong;
  TrainingSize size;
  double step_ms = 0;
};
struct EarlierRun {
  std::vector<EarlierRow> rows;  ///< measured ones
  std::string processor;
  std::int64_t cores = 0;
  std::string model;
  std::int64_t threads = 0;

  /// Of the same size; nothing where it wasn't measured then.
  [[nodiscard]] const EarlierRow* row_like(const ScalingRow& row) const;
};

/// Bytes from anywhere; `name` is the file's, for the one sentence of an error.
[[nodiscard]] Result<EarlierRun> parse_earlier(const std::string& text, const std::string& name);

}  // namespace paceline::bench

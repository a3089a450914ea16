#pragma once

#include <string>
#include <vector>

#include "paceline/job/protocol.hpp"

namespace paceline {

/// "8,214": rounded, with separators.
[[nodiscard]] std::string with_commas(double number);
/// "0:21", "12:05", "1:02:03"; "-" where it is not known.
[[nodiscard]] std::string clock_time(double seconds);
/// A number with so many decimals.
[[nodiscard]] std::string fixed(double number, int decimals);

/// Rows of cells as lines, with columns as wide as they need to be.
[[nodiscard]] std::string table_text(const std::vector<std::vector<std::string>>& rows);

/// "test loss 0.440, test accuracy 84.2%", or the perplexity in its place where it is of text; each figure
/// with so many more decimals.
[[nodiscard]] std::string eval_figures(const EvalMessage& eval, int more_decimals = 0);

/// Steps of the epoch that `progress` is in: {done, all}.
struct EpochSteps {
  std::int64_t done = 0;
  std::int64_t all = 1;
};
[[nodiscard]] EpochSteps epoch_steps(const ProgressMessage& progress);

/// The progress bar, at most `width` columns: parts give way, least important first, where it is narrow.
[[nodiscard]] std::string progress_bar(const ProgressMessage& progress, std::size_t width);
/// The same for a log file.
[[nodiscard]] std::string progress_line(const ProgressMessage& progress);

}  // namespace paceline

#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "rebalance/options.hpp"
#include "rebalance/replay.hpp"

namespace paceline::bench {

/// What one trace came to; the last law is ours.
struct RebalanceReport {
  std::size_t ranks = 0, iterations = 0;
  std::vector<std::string> notes;
  std::vector<LawResult> laws;
  std::map<std::string, std::int64_t> verdicts;
  std::string says;
};

[[nodiscard]] RebalanceReport evaluate(Trace trace, const RebalanceOptions& options);

[[nodiscard]] std::string table_of(const RebalanceReport& report, const RebalanceOptions& options);
/// docs/rebalancing.md names the keys.
[[nodiscard]] nlohmann::json to_json(const RebalanceReport& report, const RebalanceOptions& options);

}  // namespace paceline::bench

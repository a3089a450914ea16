#pragma once

#include <optional>
#include <vector>

#include "lookahead.hpp"
#include "paceline/data/dataset.hpp"
#include "paceline/data/order.hpp"

namespace paceline {

/// Turns requests into chunks and places in them. Keeps the order of the epoch that it stands in. One thread.
class RequestPlanner {
 public:
  RequestPlanner(const Dataset& dataset, const OrderSpec& spec);
  /// With an error in it where the request does not lie in an epoch.
  [[nodiscard]] PlannedRequest plan(const LoadRequest& request);

 private:
  const Dataset& dataset_;  // outlives the planner
  OrderSpec spec_;
  std::optional<EpochOrder> order_;
  std::int64_t epoch_ = 0;
  std::vector<std::int32_t> place_of_chunk_;  // in the request being planned; -1: not in it
};

}  // namespace paceline

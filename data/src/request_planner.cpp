#include "request_planner.hpp"

#include "paceline/base/text.hpp"

namespace paceline {

RequestPlanner::RequestPlanner(const Dataset& dataset, const OrderSpec& spec)
    : dataset_(dataset), spec_(spec), place_of_chunk_(dataset.chunk_samples().size(), -1) {
}

PlannedRequest RequestPlanner::plan(const LoadRequest& request) {
  PlannedRequest planned;
  planned.request = request;
  const std::int64_t samples = dataset_.info().samples;
  if (request.epoch < 0 || request.first < 0 || request.count < 0 || request.count > samples ||
      request.first > samples - request.count) {
    planned.error = Error{ErrorCode::invalid_argument,
                          concat("epoch ", request.epoch, ", ", request.count, " samples from position ",
                                 request.first, " on: ", dataset_.info().path, " has ", samples, " samples")};
    return planned;
  }
  if (!order_ || epoch_ != request.epoch) {
    order_.emplace(dataset_.chunk_samples(), spec_, request.epoch);
    epoch_ = request.epoch;
  }
  order_->append(request.first, request.count, planned.addresses);
  for (SampleAddress& address : planned.addresses) {
    std::int32_t& place = place_of_chunk_[static_cast<std::size_t>(address.chunk)];
    if (place < 0) {
      place = static_cast<std::int32_t>(planned.chunks.size());
      planned.chunks.push_back(address.chunk);
    }
    address.chunk = place;
  }
  for (const std::int32_t chunk : planned.chunks) place_of_chunk_[static_cast<std::size_t>(chunk)] = -1;
  return planned;
}

}  // namespace paceline

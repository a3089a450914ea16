#include "gradient_sums.hpp"

#include <numeric>

#include "paceline/base/text.hpp"

namespace paceline {

BucketLayout SummedTensors::layout(std::size_t element_bytes, std::size_t figures) const {
  return layout_with(element_bytes, figures + statistic_elements());
}

BucketLayout SummedTensors::layout_of_gradients(std::size_t element_bytes) const {
  return layout_with(element_bytes, 0);
}

BucketLayout SummedTensors::layout_with(std::size_t element_bytes, std::size_t tail_elements) const {
  std::vector<std::size_t> sizes;
  for (const torch::Tensor& parameter : parameters)
    sizes.push_back(static_cast<std::size_t>(parameter.numel()));
  return BucketLayout::make(sizes, tail_elements, bucket_bytes / element_bytes);
}

std::size_t SummedTensors::statistic_elements() const {
  return std::accumulate(statistics.begin(), statistics.end(), std::size_t{0});
}

Error loss_is_not_finite(std::int64_t step) {
  return {ErrorCode::invalid_argument,
          concat("the loss is not finite at step ", step,
                 ": lower optimizer.learning_rate or lengthen the schedule's warm-up")};
}

}  // namespace paceline

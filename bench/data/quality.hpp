#pragma once

#include <cstdint>
#include <span>

#include "paceline/data/order.hpp"

namespace paceline::bench {

/// How well an order mixes a dataset that is sorted by label: the mean over an epoch's full batches of
/// chi-squared against equally many samples of each of `classes` labels, divided by its degrees of freedom. A
/// shuffle of everything gives 1 on average, less than that is more even than chance, and batches of one
/// label give the batch's size.
struct Quality {
  double ours = 0;
  double everything_shuffled = 0;
  double stored_order = 0;
};
[[nodiscard]] Quality shuffle_quality(std::span<const std::int32_t> chunk_samples, const OrderSpec& spec,
                                      std::int64_t classes);

}  // namespace paceline::bench

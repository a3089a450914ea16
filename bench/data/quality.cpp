#include "data/quality.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

#include "paceline/base/hash.hpp"

namespace paceline::bench {
namespace {

/// `order`: of sample numbers, of which each label has the same share, one label after the other.
double chi_squared(const std::vector<std::int64_t>& order, std::int64_t batch, std::int64_t classes) {
  const auto samples = static_cast<std::int64_t>(order.size());
  const double expected = static_cast<double>(batch) / static_cast<double>(classes);
  double sum = 0;
  std::int64_t batches = 0;
  for (std::int64_t first = 0; first + batch <= samples; first += batch, ++batches) {
    std::vector<std::int64_t> counts(static_cast<std::size_t>(classes), 0);
    for (std::int64_t i = first; i < first + batch; ++i)
      ++counts[static_cast<std::size_t>(order[static_cast<std::size_t>(i)] * classes / samples)];
    for (const std::int64_t count : counts) {
      const double off = static_cast<double>(count) - expected;
      sum += off * off / expected;
    }
  }
  return batches == 0 ? 0 : sum / static_cast<double>(batches) / static_cast<double>(classes - 1);
}

std::vector<std::int64_t> numbers(std::span<const std::int32_t> chunk_samples, const OrderSpec& spec) {
  std::vector<std::int64_t> first = {0};
  for (const std::int32_t samples : chunk_samples) first.push_back(first.back() + samples);
  EpochOrder order(chunk_samples, spec, 0);
  std::vector<std::int64_t> result;
  result.reserve(static_cast<std::size_t>(order.samples()));
  for (const SampleAddress& address : order.addresses(0, order.samples()))
    result.push_back(first[static_cast<std::size_t>(address.chunk)] + address.index);
  return result;
}

}  // namespace

Quality shuffle_quality(std::span<const std::int32_t> chunk_samples, const OrderSpec& spec,
                        std::int64_t classes) {
  std::vector<std::int64_t> order = numbers(chunk_samples, spec);
  Quality quality;
  quality.ours = chi_squared(order, spec.row, classes);
  std::sort(order.begin(), order.end());
  quality.stored_order = chi_squared(order, spec.row, classes);
  SplitMix64 random(1);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  quality.everything_shuffled = chi_squared(order, spec.row, classes);
  return quality;
}

}  // namespace paceline::bench

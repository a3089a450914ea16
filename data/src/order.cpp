#include "paceline/data/order.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "paceline/base/assert.hpp"
#include "paceline/base/hash.hpp"

// Two levels. The chunks are permuted; consecutive permuted chunks form windows, and within a window all
// samples are shuffled. Each level draws from its own generator, keyed by (seed, epoch) and the window, so
// that any window can be made without the ones before it.

namespace paceline {
namespace {

constexpr std::uint64_t chunk_stream = 1;
constexpr std::uint64_t window_stream = 2;

/// Fisher and Yates' shuffle (Durstenfeld 1964). Not std::shuffle: its result differs between libraries.
template <class T>
void shuffle(std::vector<T>& values, std::uint64_t key) {
  SplitMix64 random(key);
  for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[random.below(i)]);
}

}  // namespace

EpochOrder::EpochOrder(std::span<const std::int64_t> chunk_samples, std::uint64_t seed, std::int64_t epoch,
                       std::int64_t window_chunks)
    : EpochOrder(sequential(chunk_samples)) {
  PACELINE_ASSERT(window_chunks >= 1, "a shuffle window has at least one chunk");
  shuffled_ = true;
  key_ = mix64(seed, epoch);
  window_chunks_ = window_chunks;
  shuffle(permuted_chunks_, mix64(key_, chunk_stream));
  const auto chunks = static_cast<std::int64_t>(chunk_samples.size());
  window_first_.assign(1, 0);
  for (std::int64_t begin = 0; begin < chunks;) {
    const std::int64_t end = begin + std::min(window_chunks, chunks - begin);
    std::int64_t samples = 0;
    for (; begin < end; ++begin)
      samples += chunk_samples_[static_cast<std::size_t>(permuted_chunks_[static_cast<std::size_t>(begin)])];
    window_first_.push_back(window_first_.back() + samples);
  }
}

EpochOrder EpochOrder::sequential(std::span<const std::int64_t> chunk_samples) {
  PACELINE_ASSERT(chunk_samples.size() <= std::numeric_limits<std::int32_t>::max(), "too many chunks");
  EpochOrder order;
  order.shuffled_ = false;
  order.chunk_samples_.assign(chunk_samples.begin(), chunk_samples.end());
  order.permuted_chunks_.resize(chunk_samples.size());
  std::iota(order.permuted_chunks_.begin(), order.permuted_chunks_.end(), 0);
  order.window_first_.assign(1, 0);
  for (const std::int64_t samples : chunk_samples)
    order.window_first_.push_back(order.window_first_.back() + samples);
  return order;
}

std::int64_t EpochOrder::samples() const noexcept {
  return window_first_.back();
}

PositionRange EpochOrder::window_at(std::int64_t position) const {
  PACELINE_ASSERT(position >= 0 && position < samples(), "the position lies in the epoch");
  const auto after = std::upper_bound(window_first_.begin(), window_first_.end(), position);
  return {*(after - 1), *after - *(after - 1)};
}

std::vector<SampleAddress> EpochOrder::window_addresses(std::size_t window) const {
  const auto first = static_cast<std::int64_t>(window) * window_chunks_;
  const auto chunks = static_cast<std::int64_t>(permuted_chunks_.size());
  const std::int64_t end = first + std::min(window_chunks_, chunks - first);
  std::vector<SampleAddress> addresses;
  addresses.reserve(static_cast<std::size_t>(window_first_[window + 1] - window_first_[window]));
  for (std::int64_t place = first; place < end; ++place) {
    const std::int32_t chunk = permuted_chunks_[static_cast<std::size_t>(place)];
    const std::int64_t samples = chunk_samples_[static_cast<std::size_t>(chunk)];
    for (std::int32_t index = 0; index < samples; ++index) addresses.push_back({chunk, index});
  }
  if (shuffled_) shuffle(addresses, mix64(key_, window_stream, window));
  return addresses;
}

std::vector<SampleAddress> EpochOrder::addresses(std::int64_t first, std::int64_t count) const {
  PACELINE_ASSERT(first >= 0 && count >= 0 && count <= samples() && first <= samples() - count,
                  "the range lies in the epoch");
  std::vector<SampleAddress> result;
  result.reserve(static_cast<std::size_t>(count));
  const auto after = std::upper_bound(window_first_.begin(), window_first_.end(), first);
  auto window = static_cast<std::size_t>(after - window_first_.begin()) - 1;
  for (; count > 0; ++window) {
    const std::vector<SampleAddress> all = window_addresses(window);
    const std::int64_t skip = first - window_first_[window];
    const std::int64_t take = std::min(count, static_cast<std::int64_t>(all.size()) - skip);
    result.insert(result.end(), all.begin() + skip, all.begin() + skip + take);
    first += take;
    count -= take;
  }
  return result;
}

}  // namespace paceline

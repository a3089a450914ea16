#include "paceline/data/order.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "paceline/base/assert.hpp"
#include "paceline/base/hash.hpp"
#include "paceline/data/dataset.hpp"

// How a row is shared among the lanes. Let A(l) be the number of samples in the lanes before lane l, and N
// that in all lanes. Of the epoch's first x positions, floor(x * A(l) / N) belong to the lanes before l: that
// is before(x, l). So a row from x to y takes before(y, l) - before(x, l) samples from the lanes before l,
// and lane l's own are the difference of two such numbers. They add up to the row exactly, by construction,
// each lane is used up exactly at the epoch's end, and no lane is ever more than one sample away from its
// proportion. A lane's own number is never negative as long as its part of a row is at least one sample,
// which deal() sees to.

namespace paceline {
namespace {

constexpr std::uint64_t chunk_stream = 1;
constexpr std::uint64_t window_stream = 2;
constexpr std::int64_t open_chunks = 64;
constexpr std::int64_t row_per_lane = 4;  // fewer samples of a lane in a row would make its number uneven

/// Fisher and Yates' shuffle (Durstenfeld 1964). Not std::shuffle: its result differs between libraries.
template <class T>
void shuffle(std::vector<T>& values, std::uint64_t key) {
  SplitMix64 random(key);
  for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[random.below(i)]);
}

}  // namespace

OrderSpec shuffled_order(const DatasetInfo& info, std::uint64_t seed, std::int64_t global_batch,
                         std::int64_t budget_bytes) {
  PACELINE_ASSERT(global_batch >= 1, "a batch has samples");
  const std::int64_t fitting = budget_bytes / (2 * std::max<std::int64_t>(info.chunk_bytes, 1));
  const std::int64_t open = std::clamp<std::int64_t>(fitting, 1, open_chunks);
  OrderSpec spec;
  spec.seed = seed;
  spec.row = global_batch;
  spec.lanes = std::max<std::int64_t>(std::min(open, global_batch / row_per_lane), 1);
  spec.lane_chunks = open / spec.lanes;
  return spec;
}

EpochOrder::EpochOrder(std::span<const std::int32_t> chunk_samples, const OrderSpec& spec, std::int64_t epoch)
    : chunk_samples_(chunk_samples), spec_(spec), key_(mix64(spec.seed, epoch)) {
  PACELINE_ASSERT(!chunk_samples.empty() && chunk_samples.size() <= std::numeric_limits<std::int32_t>::max(),
                  "a dataset has chunks, and not too many");
  PACELINE_ASSERT(spec.row >= 1 && spec.lanes >= 1 && spec.lane_chunks >= 1, "an order has rows and lanes");
  samples_ = std::accumulate(chunk_samples.begin(), chunk_samples.end(), std::int64_t{0});
  PACELINE_ASSERT(samples_ <= std::numeric_limits<std::int32_t>::max(), "positions multiply within 64 bits");
  chunks_.resize(chunk_samples.size());
  std::iota(chunks_.begin(), chunks_.end(), 0);
  if (spec.shuffle) shuffle(chunks_, mix64(key_, chunk_stream));
  const auto chunks = static_cast<std::int64_t>(chunks_.size());
  std::int64_t lanes = spec.shuffle ? std::min(spec.lanes, chunks) : 1;
  while (!deal(lanes)) --lanes;  // one lane always does
  windows_.resize(static_cast<std::size_t>(lanes));
}

/// False where a lane would have less than one sample in a row.
bool EpochOrder::deal(std::int64_t lanes) {
  const auto chunks = static_cast<std::int64_t>(chunks_.size());
  lane_chunk_.assign(1, 0);
  lane_first_.assign(1, 0);
  for (std::int64_t lane = 1; lane <= lanes; ++lane) {
    const auto end = static_cast<std::size_t>(chunks * lane / lanes);
    std::int64_t samples = 0;
    for (std::size_t i = lane_chunk_.back(); i < end; ++i)
      samples += chunk_samples_[static_cast<std::size_t>(chunks_[i])];
    if (lanes > 1 && spec_.row * samples < samples_) return false;
    lane_chunk_.push_back(end);
    lane_first_.push_back(lane_first_.back() + samples);
  }
  return true;
}

std::int64_t EpochOrder::before(std::int64_t position, std::size_t lane) const {
  return position * lane_first_[lane] / samples_;
}

std::vector<SampleAddress> EpochOrder::addresses(std::int64_t first, std::int64_t count) {
  std::vector<SampleAddress> result;
  append(first, count, result);
  return result;
}

void EpochOrder::append(std::int64_t first, std::int64_t count, std::vector<SampleAddress>& addresses) {
  PACELINE_ASSERT(first >= 0 && count >= 0 && count <= samples_ && first <= samples_ - count,
                  "the range lies in the epoch");
  addresses.reserve(addresses.size() + static_cast<std::size_t>(count));
  for (const std::int64_t end = first + count; first < end;) {
    const std::int64_t row_first = first / spec_.row * spec_.row;
    const std::int64_t last = std::min(end, row_first + spec_.row);
    append_of_row(row_first, first, last, addresses);
    first = last;
  }
}

/// Positions [first, last) of the row that begins at `row_first`.
void EpochOrder::append_of_row(std::int64_t row_first, std::int64_t first, std::int64_t last,
                               std::vector<SampleAddress>& addresses) {
  const std::int64_t row_end = std::min(row_first + spec_.row, samples_);
  // Where lane l's part of the row begins, counted from the row's first position.
  const auto begin_of = [&](std::size_t lane) { return before(row_end, lane) - before(row_first, lane); };
  const auto lanes = windows_.size();
  std::size_t lane = 0;
  for (std::size_t step = std::size_t{1} << 30; step > 0;
       step /= 2)  // the last lane that begins at or before
    if (lane + step < lanes && begin_of(lane + step) <= first - row_first) lane += step;
  std::int64_t lane_begin = begin_of(lane);
  for (; first < last; ++lane) {
    const std::int64_t lane_end = begin_of(lane + 1);
    const std::int64_t take = std::min(last - row_first, lane_end) - (first - row_first);
    if (take > 0) {
      const std::int64_t used = before(row_first, lane + 1) - before(row_first, lane);
      append_of_lane(lane, used + (first - row_first - lane_begin), take, addresses);
      first += take;
    }
    lane_begin = lane_end;
  }
}

void EpochOrder::append_of_lane(std::size_t lane, std::int64_t first, std::int64_t count,
                                std::vector<SampleAddress>& addresses) {
  while (count > 0) {
    Window& window = windows_[lane];
    if (first < window.first || first >= window.first + static_cast<std::int64_t>(window.samples.size()))
      load_window(lane, first);
    const auto begin = window.samples.begin() + (first - window.first);
    const std::int64_t take = std::min<std::int64_t>(count, window.samples.end() - begin);
    addresses.insert(addresses.end(), begin, begin + take);
    first += take;
    count -= take;
  }
}

/// The window that holds the lane's sample `place`: found by going on from the current one where that is
/// possible.
void EpochOrder::load_window(std::size_t lane, std::int64_t place) {
  Window& window = windows_[lane];
  const std::size_t lane_end = lane_chunk_[lane + 1];
  const bool goes_on = !window.samples.empty() && place >= window.first;
  std::int64_t next = goes_on ? window.first + static_cast<std::int64_t>(window.samples.size()) : 0;
  std::size_t end = goes_on ? window.end : lane_chunk_[lane];
  std::size_t begin = end;
  while (next <= place) {
    PACELINE_ASSERT(end < lane_end, "the place lies in the lane");
    begin = end;
    window.first = next;
    end = std::min(begin + static_cast<std::size_t>(spec_.lane_chunks), lane_end);
    for (std::size_t i = begin; i < end; ++i) next += chunk_samples_[static_cast<std::size_t>(chunks_[i])];
  }
  window.end = end;
  window.samples.clear();
  for (std::size_t i = begin; i < end; ++i)
    for (std::int32_t index = 0; index < chunk_samples_[static_cast<std::size_t>(chunks_[i])]; ++index)
      window.samples.push_back({chunks_[i], index});
  if (spec_.shuffle) shuffle(window.samples, mix64(key_, window_stream, begin));
}

}  // namespace paceline

#include "allreduce/statistics.hpp"

#include <algorithm>

#include "paceline/base/assert.hpp"

namespace paceline::bench {

double median(std::vector<double> values) {
  PACELINE_ASSERT(!values.empty(), "a median of nothing");
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::vector<double> slowest_of_each(const std::vector<std::vector<double>>& by_rank) {
  PACELINE_ASSERT(!by_rank.empty(), "no ranks");
  std::vector<double> slowest = by_rank.front();
  for (const std::vector<double>& batches : by_rank) {
    PACELINE_ASSERT(batches.size() == slowest.size(), "ranks with different numbers of batches");
    for (std::size_t i = 0; i < batches.size(); ++i) slowest[i] = std::max(slowest[i], batches[i]);
  }
  return slowest;
}

double algorithm_bandwidth(std::uint64_t bytes, double us) {
  return static_cast<double>(bytes) / us / 1e3;
}

double bus_bandwidth(std::uint64_t bytes, double us, int ranks) {
  return algorithm_bandwidth(bytes, us) * 2 * (ranks - 1) / ranks;
}

double wire_limit_us(std::uint64_t bytes, int hosts, double gbits) {
  return 2.0 * (hosts - 1) / hosts * static_cast<double>(bytes) * 8 / (gbits * 1e3);
}

double tolerance_of(const std::string& dtype, const std::string& codec, int ranks, int nodes) {
  constexpr double greatest_value = 16;  // of one rank
  const double greatest_sum = greatest_value * ranks;
  // Quantised once on each hop, to 127 steps of the block's greatest.
  if (codec == "int8") return greatest_sum / 127 * nodes;
  // Whole numbers are exact up to 2^8 with 8 bits and up to 2^11 with 11; beyond, half a step for each rank.
  const bool eight_bits = dtype == "bf16" || codec == "bf16";
  const bool eleven_bits = dtype == "f16" || codec == "f16";
  const double exact_up_to = eight_bits ? 256 : eleven_bits ? 2048 : 16777216;
  return greatest_sum <= exact_up_to ? 0 : greatest_sum / exact_up_to * ranks;
}

}  // namespace paceline::bench

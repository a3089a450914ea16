#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace paceline::bench {

/// The middle one, or the mean of the middle two. At least one value.
[[nodiscard]] double median(std::vector<double> values);

/// Per batch, what the slowest rank took: `by_rank[rank][batch]`, with as many batches on every rank.
[[nodiscard]] std::vector<double> slowest_of_each(const std::vector<std::vector<double>>& by_rank);

/// Bytes summed per second, in GB/s.
[[nodiscard]] double algorithm_bandwidth(std::uint64_t bytes, double us);

/// What each rank's link carries at least, in GB/s: 2(n-1)/n of the above, as nccl-tests define it.
[[nodiscard]] double bus_bandwidth(std::uint64_t bytes, double us, int ranks);

/// The time below which no sum over `hosts` hosts can be done, each with one wire of `gbits` both ways, in
/// us. Every host has to send and to receive 2(h-1)/h of the bytes.
[[nodiscard]] double wire_limit_us(std::uint64_t bytes, int hosts, double gbits);

/// How far an element of the checked sum (values.c) over `ranks` may be off. Its values are small whole
/// numbers, so that rounding shows only where a type or a codec has few bits.
[[nodiscard]] double tolerance_of(const std::string& dtype, const std::string& codec, int ranks, int nodes);

}  // namespace paceline::bench

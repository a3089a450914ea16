#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "allreduce/options.hpp"

namespace paceline::bench {

/// "4", "256K", "64M", "1G": powers of 1024. Nothing if it is anything else.
[[nodiscard]] std::optional<std::uint64_t> parse_bytes(std::string_view text);

/// Bytes of one element of "f32" and so on; 0 for a type that is not known.
[[nodiscard]] std::uint64_t bytes_of_type(std::string_view dtype);

/// From the smallest to the largest, each a whole number of elements and at least one, none twice.
[[nodiscard]] std::vector<std::uint64_t> sizes_of(const AllreduceOptions& options);

/// How many sums are timed back to back as one batch: enough that the clock and the barrier do not count.
[[nodiscard]] int repeat_of(std::uint64_t bytes);

/// `ranks` over `nodes` as evenly as it goes, the first nodes having one more.
[[nodiscard]] std::vector<int> even_layout(int ranks, int nodes);

/// The node of each rank.
[[nodiscard]] std::vector<int> nodes_of_ranks(const std::vector<int>& layout);

}  // namespace paceline::bench

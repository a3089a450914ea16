#pragma once

#include <cstddef>

namespace paceline::bench {

constexpr std::size_t probe_lanes = 16;  ///< floats of a cache line, which no two ranks should write

/// In all `ranks` buffers, elements `begin` to `end` become their sum: read all, add, write all.
void probe_add_up(float* const* buffers, int ranks, std::size_t begin, std::size_t end);

}  // namespace paceline::bench

#pragma once

#include "gradient_sums.hpp"

namespace paceline {

/// What exact sums keep from step to step, for their scale: of each tensor, and of the loss, the absolute
/// value that its terms are expected to have.
using ExpectedMagnitudes = std::vector<float>;

/// Nothing is known yet.
[[nodiscard]] ExpectedMagnitudes no_expectations(const SummedTensors& tensors);

/// Sums in 64-bit fixed point, for reproducible mode: the same bits for every number of ranks, cut and order.
/// See docs/reproducible.md. The step must say how many passes it has. `expected` outlives the sums.
/// Collective over the ranks of a node, which share the buckets' memory.
[[nodiscard]] Result<std::unique_ptr<GradientSums>> make_exact_sums(Communicator& communicator,
                                                                    const SummedTensors& tensors,
                                                                    ExpectedMagnitudes& expected);

}  // namespace paceline

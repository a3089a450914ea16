#pragma once

#include "paceline/job/protocol.hpp"

namespace paceline {

/// Writes the trained model of a run in another program's format:
///   safetensors  weights by name
///   pickle       the same as a dictionary of tensors, for torch.load
///   torchscript  network and weights, for torch.jit.load: traced with one sample, batches of any size
/// Atomic: the file is whole or not there.
[[nodiscard]] Status export_model(const StartMessage& start);

}  // namespace paceline

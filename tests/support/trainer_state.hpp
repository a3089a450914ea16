#pragma once

#include <cstddef>
#include <vector>

#include "paceline/train/trainer.hpp"

namespace paceline::testing {

inline std::vector<StatePart> state_of(Trainer& trainer) {
  return trainer.state().value();
}

inline std::vector<std::byte> bytes_of(const std::vector<StatePart>& parts) {
  std::vector<std::byte> bytes;
  for (const StatePart& part : parts) bytes.insert(bytes.end(), part.bytes.begin(), part.bytes.end());
  return bytes;
}

}  // namespace paceline::testing

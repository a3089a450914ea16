#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace paceline {

/// What the training thread does, as HeartbeatMessage has it.
enum class Phase : std::uint8_t {
  loading,
  idle,
  connect,
  transfer,
  data,
  compute,
  reduce,
  commit,
  evaluate,
  save
};

[[nodiscard]] inline std::string_view name_of(Phase phase) {
  static constexpr std::array<std::string_view, 10> names = {
      "loading", "idle", "connect", "transfer", "data", "compute", "reduce", "commit", "evaluate", "save"};
  return names.at(static_cast<std::size_t>(phase));
}

}  // namespace paceline

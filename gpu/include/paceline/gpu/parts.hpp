#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "paceline/gpu/nvml.hpp"

namespace paceline::nvml {

/// What a process can compute on: a GPU, or a slice of one that is cut into some (MIG).
struct Part {
  Device device = nullptr;  ///< null: nothing can run there, and it only keeps its number
  Device gpu = nullptr;     ///< the whole one
  std::string uuid;         ///< empty: the driver doesn't say
  std::string complaint{};  ///< why nothing can run there
  [[nodiscard]] bool is_slice() const { return device != gpu; }
};

/// All of this machine, in the driver's order, in which CUDA_DEVICE_ORDER=PCI_BUS_ID counts too. io: the
/// driver does not list them, with its words.
[[nodiscard]] Result<std::vector<Part>> all_parts(const Api& api);

/// Which of the parts with these UUIDs CUDA_VISIBLE_DEVICES leaves this process, by their places.
[[nodiscard]] std::vector<std::size_t> visible(const std::vector<std::string>& uuids);
/// The same with that as the variable's value: numbers, UUIDs or their beginnings, up to the first that is
/// none of these, as CUDA reads it. All where it is unset.
[[nodiscard]] std::vector<std::size_t> visible(const std::vector<std::string>& uuids,
                                               const std::optional<std::string>& variable);

}  // namespace paceline::nvml

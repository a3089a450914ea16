#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "paceline/base/result.hpp"

namespace paceline::cuda {

/// What a rank tells the others of its GPU when they meet. Plain bytes of one size, which an all_gather
/// carries.
struct DeviceFacts {
  unsigned char uuid[16] = {};
  char name[64] = {};                   ///< "NVIDIA H100 80GB HBM3"
  char trouble[256] = {};               ///< why this rank can't use its GPU, a sentence; empty if it can
  std::int32_t trouble_code = 0;        ///< an ErrorCode
  std::int32_t device = -1;             ///< as CUDA numbers it there
  std::int32_t compute_capability = 0;  ///< 90 for 9.0
  std::int32_t toolkit = 0;             ///< CUDA that Paceline was built with, 13000 for 13.0
  std::int32_t driver = 0;              ///< greatest CUDA that the driver supports
  std::int32_t nccl_header = 0;         ///< 22809 for 2.28.9; 0: built without
  std::int32_t nccl_library = 0;
  std::int64_t process = 0;
  std::uint64_t host = 0;  ///< equal for ranks on one host, by whatever name
};
static_assert(std::is_trivially_copyable_v<DeviceFacts>);

/// Puts `text` into a field, cut to its size.
template <std::size_t bytes>
void put(char (&field)[bytes], std::string_view text) {
  text.copy(field, bytes - 1);
  field[std::min(text.size(), bytes - 1)] = '\0';
}

/// "rank 3, GPU 1 (NVIDIA H100 80GB HBM3)".
[[nodiscard]] std::string name_of(int rank, const DeviceFacts& facts);

/// Why a driver is too old for the toolkit, and what to do; empty if it is not. Within a major version of
/// CUDA any driver serves (NVIDIA, "CUDA Compatibility", minor version compatibility). `driver` 0: there is
/// none.
[[nodiscard]] std::string objection_to_driver(int driver, int toolkit);

/// Whether these ranks can work together; the same answer on all of them. Errors name the rank: its own
/// trouble, or invalid_argument where two have one GPU and `share_device` does not allow it.
[[nodiscard]] Status check_devices(std::span<const DeviceFacts> facts, bool share_device);

/// Why NCCL is not used among these ranks; empty if it can be.
[[nodiscard]] std::string objection_to_nccl(std::span<const DeviceFacts> facts);

/// For people: the GPUs, a line for each rank, and what may surprise, such as kinds that differ.
[[nodiscard]] std::string describe_devices(std::span<const DeviceFacts> facts);

}  // namespace paceline::cuda

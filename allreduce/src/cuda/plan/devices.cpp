#include "devices.hpp"

#include <cstring>

#include "paceline/base/text.hpp"

namespace paceline::cuda {
namespace {

std::string cuda_version(int number) {
  return concat(number / 1000, ".", number % 1000 / 10);
}

std::string nccl_version(int number) {
  return concat(number / 10000, ".", number / 100 % 100, ".", number % 100);
}

bool same_gpu(const DeviceFacts& a, const DeviceFacts& b) {
  return std::memcmp(a.uuid, b.uuid, sizeof a.uuid) == 0;
}

}  // namespace

std::string name_of(int rank, const DeviceFacts& facts) {
  if (facts.device < 0) return concat("rank ", rank);
  if (facts.name[0] == '\0') return concat("rank ", rank, ", GPU ", facts.device);
  return concat("rank ", rank, ", GPU ", facts.device, " (", facts.name, ")");
}

std::string objection_to_driver(int driver, int toolkit) {
  if (driver == 0) return "there is no NVIDIA driver: install one, or run this rank where a GPU is";
  if (driver / 1000 >= toolkit / 1000) return {};
  return concat("the NVIDIA driver supports CUDA ", cuda_version(driver),
                " and Paceline was built with CUDA ", cuda_version(toolkit),
                ": install a newer driver, or build with CUDA ", driver / 1000);
}

Status check_devices(std::span<const DeviceFacts> facts, bool share_device) {
  for (std::size_t i = 0; i < facts.size(); ++i) {
    const int rank = static_cast<int>(i);
    if (facts[i].trouble[0] != '\0')
      return Error{static_cast<ErrorCode>(facts[i].trouble_code),
                   concat(name_of(rank, facts[i]), ": ", facts[i].trouble), rank};
    for (std::size_t other = 0; other < i && !share_device; ++other)
      if (same_gpu(facts[other], facts[i]))
        return Error{
            ErrorCode::invalid_argument,
            concat(name_of(rank, facts[i]), ": it is the GPU of rank ", other,
                   ", too; give each rank its own (CUDA_VISIBLE_DEVICES, or DeviceOptions::device), or "
                   "allow it with DeviceOptions::share_device"),
            rank};
  }
  return {};
}

std::string objection_to_nccl(std::span<const DeviceFacts> facts) {
  for (std::size_t i = 0; i < facts.size(); ++i) {
    const std::string who = name_of(static_cast<int>(i), facts[i]);
    const DeviceFacts& its = facts[i];
    if (its.nccl_header == 0) return concat(who, ": Paceline was built without NCCL");
    if (its.nccl_library < its.nccl_header)
      return concat(who, ": NCCL's library is ", nccl_version(its.nccl_library), " and its header was ",
                    nccl_version(its.nccl_header),
                    ": let LD_LIBRARY_PATH find the newer one, or build with the older");
    if (its.nccl_library != facts[0].nccl_library)
      return concat(who, ": NCCL's library is ", nccl_version(its.nccl_library), " and rank 0 has ",
                    nccl_version(facts[0].nccl_library), ": install the same on all nodes");
  }
  return {};
}

std::string describe_devices(std::span<const DeviceFacts> facts) {
  std::string text;
  for (std::size_t i = 0; i < facts.size(); ++i) {
    const DeviceFacts& its = facts[i];
    text += concat(name_of(static_cast<int>(i), its), ": compute capability ", its.compute_capability / 10,
                   ".", its.compute_capability % 10, ", driver for CUDA ", cuda_version(its.driver));
    if (its.nccl_library != 0) text += concat(", NCCL ", nccl_version(its.nccl_library));
    for (std::size_t other = 0; other < i; ++other)
      if (same_gpu(facts[other], its)) text += concat(", shared with rank ", other);
    text += "\n";
  }
  for (std::size_t i = 1; i < facts.size(); ++i) {
    if (std::strcmp(facts[i].name, facts[0].name) == 0) continue;
    text += concat("note: the GPUs are of different kinds (rank 0 has ", facts[0].name, ", rank ", i, " ",
                   facts[i].name, "): each step waits for the slowest, unless shares are rebalanced\n");
    break;
  }
  return text;
}

}  // namespace paceline::cuda

#pragma once

#include <cstdint>
#include <string>

#include "paceline/allreduce.hpp"

namespace paceline {

enum class CollectiveKind : std::uint8_t { all_reduce, broadcast, all_gather, barrier };

/// What a rank is about to do, in the form that ranks compare: equal on all of them or an error.
/// Plain bytes without padding, because it lies in shared memory and travels in message headers.
struct Descriptor {
  std::uint64_t operation = 0;  ///< how many collectives came before this one, on this communicator
  std::uint64_t count = 0;      ///< elements; of one block for all_gather
  std::int32_t root = 0;
  CollectiveKind kind = CollectiveKind::barrier;
  DataType type = DataType::f32;
  ReduceOp op = ReduceOp::sum;
  std::uint8_t reserved = 0;
  friend bool operator==(const Descriptor&, const Descriptor&) = default;
};
static_assert(sizeof(Descriptor) == 24);

/// "all_reduce(sum) of 128 f32 (operation 7)".
[[nodiscard]] std::string describe(const Descriptor& descriptor);

/// The error of two ranks that called different things, blamed on `other`.
[[nodiscard]] Error mismatch_error(int rank, const Descriptor& mine, int other, const Descriptor& theirs);

}  // namespace paceline

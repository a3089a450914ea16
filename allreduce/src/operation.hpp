#pragma once

#include <cstdint>
#include <string>

#include "paceline/allreduce.hpp"
#include "paceline/transport.hpp"

namespace paceline {

enum class CollectiveKind : std::uint8_t {
  all_reduce,
  reduce_scatter,
  all_gather,
  broadcast,
  barrier,
  probe
};

/// What a rank is about to do, in the form that ranks compare: equal on all of them or an error.
/// Plain bytes without padding, because it lies in shared memory and travels in message headers.
struct Descriptor {
  std::uint64_t operation = 0;  ///< how many collectives were begun before this one, on this communicator
  std::uint64_t count = 0;      ///< elements; of one rank's block for reduce_scatter and all_gather
  std::int32_t root = 0;
  std::int32_t priority = 0;
  CollectiveKind kind = CollectiveKind::barrier;
  DataType type = DataType::f32;
  ReduceOp op = ReduceOp::sum;
  Codec codec = Codec::none;
  std::int16_t exponent = 0;   ///< of fixed point
  std::uint16_t feedback = 0;  ///< 1: with a residual
  friend bool operator==(const Descriptor&, const Descriptor&) = default;
};
static_assert(sizeof(Descriptor) == sizeof BlockHeader::descriptor);

/// A collective as this rank called it.
struct Request {
  Descriptor descriptor;
  const std::byte* input = nullptr;
  std::byte* output = nullptr;
  double weight = 1.0;
  float* residual = nullptr;
  bool has_it = false;  ///< of broadcast: what is to come is there already
};

/// What can be said of a call without asking the other ranks.
[[nodiscard]] Status check_request(const Request& request, int rank, int size);

/// "all_reduce(sum) of 128 f32 (operation 7)".
[[nodiscard]] std::string describe(const Descriptor& descriptor);

/// The error of two ranks that called different things, blamed on `other`.
[[nodiscard]] Error mismatch_error(int rank, const Descriptor& mine, int other, const Descriptor& theirs);

}  // namespace paceline

#pragma once

#include <cstddef>

#include "operation.hpp"

namespace paceline {

/// What partial sums look like while they travel between nodes: how many bytes, how they are added up, and
/// how they are coded on the wire. A value; all members are pure but for the caller's residual.
class Arithmetic {
 public:
  explicit Arithmetic(const Descriptor& descriptor);

  /// Bytes of an element of a partial sum in memory: the type's, or 8 in fixed point.
  [[nodiscard]] std::size_t unit() const noexcept { return unit_; }
  [[nodiscard]] bool fixed_point() const noexcept { return descriptor_.codec == Codec::fixed_point; }
  /// Partial sums go over the wire in another form than they have in memory.
  [[nodiscard]] bool coded() const noexcept {
    return descriptor_.codec != Codec::none && descriptor_.codec != Codec::fixed_point;
  }
  /// Bytes on the wire of `count` elements.
  [[nodiscard]] std::size_t wire_bytes(std::size_t count) const;

  /// sum = (ins[0] * weights[0] + ...), partial: nothing has been divided or decoded. `weights` may be null.
  void partial(std::byte* sum, const void* const* ins, int in_count, const double* weights,
               std::size_t count) const;
  /// The whole sum at once, into every output.
  void whole(void* const* outs, int out_count, const void* const* ins, int in_count, const double* weights,
             std::size_t count, double divisor) const;
  /// sum = parts[0] + parts[1] + ... of partial sums, in that order; the last addition of a sum divides.
  void add(std::byte* sum, const void* const* parts, int part_count, std::size_t count, double divisor) const;
  /// A complete sum in its final form: decoded and divided in fixed point (which add() must not divide), else
  /// copied.
  void finish(void* const* outs, int out_count, const std::byte* sum, std::size_t count,
              double divisor) const;

  /// For coded(). `residual` (or null) is added before and receives what is lost.
  void encode(std::byte* wire, const std::byte* sum, std::size_t count, float* residual) const;
  void decode(std::byte* sum, const std::byte* wire, std::size_t count) const;

 private:
  void encode_plainly(std::byte* wire, const float* in, std::size_t count) const;

  Descriptor descriptor_;
  std::size_t unit_;
  double factor_;  // 2^exponent
};

}  // namespace paceline

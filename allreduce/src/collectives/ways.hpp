#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "paceline/allreduce.hpp"

namespace paceline {

/// How the ranks of a node get at each other's data.
enum class Way : std::uint32_t {
  direct,  ///< it is in memory that all have mapped
  staged,  ///< copied into a segment that all have mapped
  pulled,  ///< read from the other's memory by the kernel
};

/// Which of two ways is the faster for memory of the callers' own: that depends on its pages, so it is tried
/// out on the collectives themselves, per size, by one rank of the node that decides for all. Both give the
/// same bits.
class WayChooser {
 public:
  void force(PlainMemory plain_memory) { forced_ = plain_memory; }
  [[nodiscard]] Way choose(std::size_t bytes) const;
  /// Of what goes to others as it is: reading it is the one copy that there must be, staging it adds two.
  [[nodiscard]] Way choose_for_copy() const {
    return forced_ == PlainMemory::staged ? Way::staged : Way::pulled;
  }
  /// `took`: what a collective of `bytes` took on its way.
  void learn(std::size_t bytes, Way way, Duration took);

 private:
  struct Class {
    Duration best_staged{};
    Duration best_pulled{};
    std::uint32_t count = 0;
  };
  [[nodiscard]] static std::size_t class_of(std::size_t bytes);
  PlainMemory forced_ = PlainMemory::automatic;
  std::array<Class, 64> classes_{};  // by the logarithm of the size
};

}  // namespace paceline

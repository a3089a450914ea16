#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace paceline {

/// Where every parameter lies in flat memory, and how that is cut into buckets. A pure function of the
/// parameters' sizes, so all ranks agree without a word.
///
/// Parameters lie in the reverse of their registration, which is about the order in which backward finishes
/// them, so that buckets fill one after the other. Behind the last parameter, in the last bucket, is a tail
/// of figures that are summed with the gradients: loss, correct predictions, normalisation statistics.
struct BucketLayout {
  struct Bucket {
    std::size_t begin = 0;  ///< elements
    std::size_t end = 0;
    std::vector<std::size_t> parameters;  ///< indices, in the order in which they lie
  };
  std::vector<std::size_t> offset;     ///< of parameter i, in elements
  std::vector<std::size_t> bucket_of;  ///< of parameter i
  std::vector<Bucket> buckets;         ///< ascending and contiguous
  std::size_t tail = 0;                ///< offset of the tail
  std::size_t elements = 0;            ///< in all, tail included

  [[nodiscard]] static BucketLayout make(const std::vector<std::size_t>& parameter_elements,
                                         std::size_t tail_elements, std::size_t bucket_elements);
};

}  // namespace paceline

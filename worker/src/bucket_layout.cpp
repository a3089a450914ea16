#include "bucket_layout.hpp"

namespace paceline {
namespace {

// A cache line of f32: no two parameters, and no two ranks' parts of a sum, share one.
constexpr std::size_t grid = 16;

std::size_t round_up(std::size_t elements) {
  return (elements + grid - 1) / grid * grid;
}

}  // namespace

BucketLayout BucketLayout::make(const std::vector<std::size_t>& parameter_elements, std::size_t tail_elements,
                                std::size_t bucket_elements) {
  BucketLayout layout;
  const std::size_t count = parameter_elements.size();
  layout.offset.resize(count);
  layout.bucket_of.resize(count);
  layout.buckets.emplace_back();
  std::size_t at = 0;
  for (std::size_t i = count; i-- > 0;) {
    const std::size_t size = round_up(parameter_elements[i]);
    BucketLayout::Bucket* bucket = &layout.buckets.back();
    const std::size_t filled = at - bucket->begin;
    if (filled > 0 && filled + size > bucket_elements) {
      bucket->end = at;
      layout.buckets.push_back({at, at, {}});
      bucket = &layout.buckets.back();
    }
    layout.offset[i] = at;
    layout.bucket_of[i] = layout.buckets.size() - 1;
    bucket->parameters.push_back(i);
    at += size;
  }
  layout.tail = at;
  layout.elements = at + round_up(tail_elements);
  layout.buckets.back().end = layout.elements;
  return layout;
}

}  // namespace paceline

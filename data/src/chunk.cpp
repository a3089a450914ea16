#include <cstring>
#include <utility>

#include "paceline/base/assert.hpp"
#include "paceline/data/dataset.hpp"

namespace paceline {

Chunk::Chunk(ByteBuffer bytes, Layout layout) : bytes_(std::move(bytes)), layout_(std::move(layout)) {
  const Layout& at = layout_;
  const std::int64_t end = at.samples == 0     ? 0
                           : at.begins.empty() ? (at.samples - 1) * at.stride_bytes + at.sample_bytes
                                               : at.begins.back();
  PACELINE_ASSERT(end <= bytes_.size(), "the samples lie in the chunk");
  PACELINE_ASSERT(at.labels_offset + at.samples * std::int64_t{sizeof(std::int32_t)} <= bytes_.size() ||
                      at.labels_offset < 0,
                  "the labels lie in the chunk");
}

std::int64_t Chunk::bytes() const noexcept {
  return bytes_.capacity() + static_cast<std::int64_t>(layout_.begins.capacity() * sizeof(std::int64_t));
}

std::span<const std::byte> Chunk::sample(std::int64_t i) const {
  PACELINE_ASSERT(i >= 0 && i < layout_.samples, "a chunk has only so many samples");
  const auto at = static_cast<std::size_t>(i);
  const bool cut = !layout_.begins.empty();
  const std::int64_t begin = cut ? layout_.begins[at] : i * layout_.stride_bytes;
  const std::int64_t bytes = cut ? layout_.begins[at + 1] - begin : layout_.sample_bytes;
  return bytes_.span().subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(bytes));
}

std::int32_t Chunk::label(std::int64_t i) const {
  PACELINE_ASSERT(i >= 0 && i < layout_.samples, "a chunk has only so many samples");
  if (layout_.labels_offset < 0) return 0;
  std::int32_t label = 0;
  std::memcpy(&label, bytes_.data() + layout_.labels_offset + i * std::int64_t{sizeof label}, sizeof label);
  return label;
}

}  // namespace paceline

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "paceline/base/result.hpp"
#include "paceline/job/checkpoint.hpp"

// What the writer and the reader of checkpoints share: names, checksums, and the rules of a manifest.

namespace paceline {

// JSON readers elsewhere hold these exactly, and sums of a few of them stay far inside 64 bits.
inline constexpr std::int64_t most_checkpoint_number = std::int64_t{1} << 53;
inline constexpr std::size_t most_manifest_bytes = std::size_t{64} << 20;

/// A folder in RUN/checkpoints, by its name.
struct CheckpointFolder {
  enum class Kind {
    published,   ///< step-000000200.term-3
    unfinished,  ///< .step-000000200.term-3.gen-7
    removed,     ///< .removing-..., from whose removal someone was torn away
  };
  Kind kind = Kind::published;
  std::string name;
  CheckpointId id;  ///< generation: of an unfinished one alone; nothing of a removed one
};

[[nodiscard]] std::string checkpoints_folder(const std::string& run_dir);
[[nodiscard]] std::string published_name(const CheckpointId& id);
[[nodiscard]] std::string unfinished_name(const CheckpointId& id);
[[nodiscard]] std::string part_file_name(std::int64_t rank, std::int64_t ranks);
/// Nothing for names that none of the above makes.
[[nodiscard]] std::optional<CheckpointFolder> parse_checkpoint_folder(const std::string& name);
/// All that RUN/checkpoints holds, in no order. Nothing where it isn't there.
[[nodiscard]] Result<std::vector<CheckpointFolder>> find_checkpoint_folders(const std::string& run_dir);
/// Whether one that is published, or an attempt, has the later place in the run's history.
[[nodiscard]] bool is_newer(const CheckpointId& a, const CheckpointId& b);

[[nodiscard]] std::uint64_t block_checksum(std::span<const std::byte> bytes) noexcept;
[[nodiscard]] std::int64_t blocks_in(std::int64_t bytes);

/// The first rule of the format that a manifest breaks; empty where it keeps them all.
[[nodiscard]] std::string complaint_about(const CheckpointManifest& manifest);
/// A manifest's JSON, an object of at least one member, with the checksum that ends it.
[[nodiscard]] std::string seal_manifest(std::string_view json);
/// Each part is in `folder`, with the size that the manifest says.
[[nodiscard]] Status check_part_sizes(const std::string& folder, const CheckpointManifest& manifest);

/// A list of spans as one string of bytes, walked from its beginning to its end.
template <class Byte>
class ByteWalk {
 public:
  explicit ByteWalk(std::span<const std::span<Byte>> spans) : spans_(spans) {}

  /// Calls `with` for the pieces that the next `bytes` bytes lie in.
  template <class With>
  void take(std::size_t bytes, With with) {
    while (bytes > 0) {
      PACELINE_ASSERT(at_ < spans_.size(), "the spans hold what is taken from them");
      const std::span<Byte> left = spans_[at_].subspan(within_);
      const std::span<Byte> piece = left.first(std::min(bytes, left.size()));
      if (!piece.empty()) with(piece);
      bytes -= piece.size();
      within_ += piece.size();
      if (piece.size() < left.size()) continue;
      ++at_;
      within_ = 0;
    }
  }
  void skip(std::size_t bytes) {
    take(bytes, [](std::span<Byte>) {});
  }

 private:
  std::span<const std::span<Byte>> spans_;
  std::size_t at_ = 0;
  std::size_t within_ = 0;
};

template <class Byte>
[[nodiscard]] std::int64_t bytes_in(std::span<const std::span<Byte>> spans) {
  std::int64_t bytes = 0;
  for (const std::span<Byte>& span : spans) bytes += static_cast<std::int64_t>(span.size());
  return bytes;
}

}  // namespace paceline

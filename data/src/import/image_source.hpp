#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "import_run.hpp"
#include "manifest.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// One image on its way into a shard.
struct ImageSample {
  std::span<const std::byte> values;   ///< decoded, in the manifest's layout
  std::span<const std::byte> encoded;  ///< its JPEG file, where it has one already
  std::int32_t label = 0;
};

/// A run of consecutive items, worked off by one thread.
class ImagePart {
 public:
  virtual ~ImagePart() = default;
  /// The next sample, nothing at the end. Its views hold until the next call.
  [[nodiscard]] virtual Result<std::optional<ImageSample>> next() = 0;
};

/// What one split (train, test) is made of.
class ImageSource {
 public:
  virtual ~ImageSource() = default;
  /// How many there are, the bad ones included, which yield no sample.
  [[nodiscard]] virtual std::int64_t items() const = 0;
  /// The part of items [first, first + count). Called for one part after the other in order, one call at a
  /// time; parts are then used by several threads at once.
  [[nodiscard]] virtual Result<std::unique_ptr<ImagePart>> take(std::int64_t first, std::int64_t count) = 0;
  /// Once all parts were taken: whether the source ends there.
  [[nodiscard]] virtual Status expect_end() { return {}; }
};

/// Samples of one size and their labels, in memory: a part of a source that is simply read.
class StoredPart : public ImagePart {
 public:
  StoredPart(std::vector<std::byte> values, std::vector<std::int32_t> labels)
      : values_(std::move(values)), labels_(std::move(labels)) {}
  [[nodiscard]] Result<std::optional<ImageSample>> next() override;

 private:
  std::vector<std::byte> values_;
  std::vector<std::int32_t> labels_;
  std::size_t at_ = 0;
};

/// Everything of one split but its samples.
struct ImageSplit {
  std::string name;             ///< of its folder: train, test
  Manifest manifest;            ///< name, storage, layout, shape, classes
  std::int64_t item_bytes = 0;  ///< about what one stored sample takes
  std::unique_ptr<ImageSource> source;
};

/// Writes the dataset `folder`/`split.name`, and reads it back.
[[nodiscard]] Status write_images(ImportRun& run, const std::string& folder, ImageSplit& split);

}  // namespace paceline

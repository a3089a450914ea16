#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

/// How stored images become inputs of a network.
struct TransformSpec {
  std::int64_t channels = 0, rows = 0, columns = 0;  ///< of the stored images
  bool interleaved = false;                      ///< stored as rows, columns, channels; else channels first
  std::int64_t crop_rows = 0, crop_columns = 0;  ///< of the inputs; 0: as stored
  std::int64_t padding = 0;  ///< black border that is thought around the image when a crop's place is drawn
  bool flip = false;         ///< mirrors every second image, at random
  std::vector<double> mean, standard_deviation;  ///< by channel, of values / 255; inputs have 0 and 1
};

/// Crops, mirrors and normalises. What is random about it follows from the sample's own seed alone. Const
/// members may be called by any thread.
class ImageTransform {
 public:
  /// invalid_argument: a crop larger than the image with its border, or figures that are not one for each
  /// channel.
  [[nodiscard]] static Result<ImageTransform> make(TransformSpec spec);

  /// {channels, rows, columns} of the inputs.
  [[nodiscard]] std::vector<std::int64_t> output_shape() const;
  [[nodiscard]] std::int64_t output_values() const noexcept;
  /// For training: a random crop and mirroring. `pixels` is a whole image, `out` has output_values() places.
  void apply_random(std::span<const std::byte> pixels, std::uint64_t seed, float* out) const;
  /// For evaluation: the centre, never mirrored.
  void apply_centred(std::span<const std::byte> pixels, float* out) const;

 private:
  /// Where the crop begins in the image (negative: in the border), and whether it is mirrored.
  struct Cut {
    std::int64_t row = 0, column = 0;
    bool mirrored = false;
  };
  explicit ImageTransform(TransformSpec spec);
  void apply(const std::byte* pixels, const Cut& cut, float* out) const;
  void copy_row(const std::byte* row, std::int64_t channel, const Cut& cut, float* out) const;

  TransformSpec spec_;
  std::vector<float> scale_, shift_;  // by channel: input = value * scale + shift
};

}  // namespace paceline

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

inline constexpr std::int64_t cifar_image_bytes = 3 * 32 * 32;

/// A file of the binary version of CIFAR: records of one label byte (CIFAR-10) or a coarse and a fine one
/// (CIFAR-100), and three planes of 32x32.
class CifarFile {
 public:
  /// Checks that the file has whole records, at least one.
  [[nodiscard]] static Result<CifarFile> open(const std::string& path, std::int64_t label_bytes);

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] std::int64_t records() const noexcept { return records_; }
  /// Appends `count` images and their labels (the fine ones) from record `first` on. corrupt for a label that
  /// is not below `classes`. From any thread.
  [[nodiscard]] Status read(std::int64_t first, std::int64_t count, std::int64_t classes,
                            std::vector<std::byte>& values, std::vector<std::int32_t>& labels) const;

 private:
  CifarFile() = default;

  std::string path_;
  UniqueFd fd_;
  std::int64_t label_bytes_ = 1;
  std::int64_t records_ = 0;
};

}  // namespace paceline

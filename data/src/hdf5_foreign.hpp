#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

/// A dataset of u8 values in an HDF5 file that someone else made: what it is, and where its chunks lie.
/// Opening refuses whatever cannot be read without the HDF5 library. For one thread.
class ForeignFile {
 public:
  [[nodiscard]] static Result<ForeignFile> open(const std::string& path, const std::string& dataset);
  ForeignFile(ForeignFile&&) noexcept;
  ForeignFile& operator=(ForeignFile&&) = delete;
  ~ForeignFile();

  [[nodiscard]] const std::vector<std::int64_t>& shape() const noexcept;  ///< samples first
  [[nodiscard]] bool chunked() const noexcept;
  [[nodiscard]] bool deflated() const noexcept;
  [[nodiscard]] std::int64_t bytes() const noexcept;  ///< of the file
  /// What of `samples_per_chunk` samples is read as one: those of the file's chunks, or any number where it
  /// has none.
  void set_chunk_samples(std::int64_t samples) noexcept;
  [[nodiscard]] std::int64_t chunk_samples() const noexcept;

  /// All of a dataset of integers in the same file, as many as there are samples.
  [[nodiscard]] Result<std::vector<std::int64_t>> read_labels(const std::string& dataset);

  /// A chunk as it is stored, through the HDF5 library.
  struct Stored {
    std::vector<std::byte> bytes;
    bool coded = false;  ///< with deflate
  };
  [[nodiscard]] Result<Stored> read(std::int64_t chunk);
  /// The offset at which the file has exactly these bytes. Chunks are best asked for in order.
  [[nodiscard]] Result<std::int64_t> locate(std::int64_t chunk, const Stored& stored);

 private:
  struct Impl;
  explicit ForeignFile(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace paceline

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"

struct gzFile_s;

namespace paceline {

/// A file of unsigned bytes in the IDX format of the MNIST database, compressed with gzip or not: a magic
/// number, big-endian 32-bit sizes, and the bytes.
class IdxFile {
 public:
  /// Reads the header, which must have from `least` to `most` sizes.
  [[nodiscard]] static Result<IdxFile> open(const std::string& path, int least, int most);

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] const std::vector<std::int64_t>& sizes() const noexcept { return sizes_; }
  /// Exactly `into.size()` further bytes.
  [[nodiscard]] Status read(std::span<std::byte> into);
  /// Nothing may follow; also where gzip's own checksum is checked.
  [[nodiscard]] Status expect_end();

 private:
  struct Close {
    void operator()(gzFile_s* file) const noexcept;
  };
  explicit IdxFile(std::string path) : path_(std::move(path)) {}
  /// Fewer bytes only at the file's end.
  [[nodiscard]] Result<std::size_t> read_some(std::span<std::byte> into);

  std::string path_;
  std::unique_ptr<gzFile_s, Close> file_;
  std::vector<std::int64_t> sizes_;
};

}  // namespace paceline

#pragma once

#include <sys/types.h>

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "hdf5_foreign.hpp"
#include "hdf5_session.hpp"
#include "paceline/base/fd.hpp"

// What hdf5_foreign.cpp finds out about a file and hdf5_foreign_chunks.cpp reads its chunks with.

namespace paceline {

/// What tells a file from what it was before.
struct FileStamp {
  std::int64_t bytes = 0;
  std::int64_t modified_ns = 0;
  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};
[[nodiscard]] Result<FileStamp> file_stamp(int fd, const std::string& path);

struct ForeignFile::Impl {
  std::string path;
  std::string dataset;
  UniqueFd fd;
  FileStamp stamp;
  hdf5::Handle file;
  hdf5::Handle values;
  std::int64_t file_bytes = 0;
  std::int64_t user_block_bytes = 0;
  std::vector<std::int64_t> shape;
  std::int64_t sample_bytes = 0;
  std::int64_t contiguous_offset = 0;
  bool is_chunked = false;
  bool edge_is_never_coded = false;
  unsigned deflate_bit = 0;  ///< in the mask of filters that a chunk has skipped; 0: no deflate
  std::int64_t chunk_samples = 0;

  std::int64_t previous_end = 0;  ///< of the chunk that was found last
  std::int64_t usual_gap = 0;     ///< between chunks, where there was one

  [[nodiscard]] Error refused(std::string_view what) const;
  [[nodiscard]] Status open_file();
  [[nodiscard]] Status open_dataset();
  [[nodiscard]] Status read_storage();
  [[nodiscard]] Status read_contiguous();
  [[nodiscard]] Status read_chunks(const hdf5::Handle& properties);
  [[nodiscard]] Status read_filters(const hdf5::Handle& properties);

  [[nodiscard]] std::int64_t samples_in(std::int64_t chunk) const noexcept;
  [[nodiscard]] Result<Stored> read_chunk(std::int64_t chunk) const;
  [[nodiscard]] Result<Stored> read_part(std::int64_t chunk) const;
  [[nodiscard]] Result<bool> is_coded(std::int64_t chunk, std::uint32_t skipped, std::size_t bytes) const;
  [[nodiscard]] Result<bool> lies_at(std::int64_t offset, const std::vector<std::byte>& bytes) const;
  [[nodiscard]] std::vector<std::int64_t> likely_offsets(std::int64_t chunk) const;
  [[nodiscard]] std::vector<std::int64_t> offsets_of_library(std::int64_t chunk) const;
};

}  // namespace paceline

#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "hdf5_foreign_impl.hpp"
#include "manifest.hpp"
#include "paceline/base/text.hpp"
#include "shard.hpp"

namespace paceline {

Result<FileStamp> file_stamp(int fd, const std::string& path) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return system_error(concat("cannot stat ", path));
  if (!S_ISREG(status.st_mode))
    return Error{ErrorCode::invalid_argument, concat(path, " is not a regular file")};
  return FileStamp{status.st_size,
                   std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec};
}

std::int64_t ForeignFile::Impl::samples_in(std::int64_t chunk) const noexcept {
  return std::min(chunk_samples, shape[0] - chunk * chunk_samples);
}

/// Whether a chunk's bytes are coded. As they are, they have their full length, and only that tells later.
Result<bool> ForeignFile::Impl::is_coded(std::int64_t chunk, std::uint32_t skipped, std::size_t bytes) const {
  const bool edge = samples_in(chunk) < chunk_samples;
  const bool coded = deflate_bit != 0 && (skipped & deflate_bit) == 0 && !(edge && edge_is_never_coded);
  const bool full = static_cast<std::int64_t>(bytes) == chunk_samples * sample_bytes;
  if (coded != full) return coded;
  if (coded)
    return refused(concat("has a chunk ", chunk,
                          " that is as long compressed as not: write it again with other chunks"));
  return refused(concat("has a chunk ", chunk, " of ", bytes, " bytes where ", chunk_samples * sample_bytes,
                        " are expected"));
}

Result<ForeignFile::Stored> ForeignFile::Impl::read_chunk(std::int64_t chunk) const {
  std::vector<hsize_t> at(shape.size(), 0);
  at[0] = static_cast<hsize_t>(chunk * chunk_samples);
  hsize_t bytes = 0;
  std::uint32_t skipped = 0;
  if (H5Dget_chunk_storage_size(values.get(), at.data(), &bytes) < 0 || bytes == 0)
    return refused(concat("has a chunk ", chunk, " that was never written"));
  if (bytes > static_cast<hsize_t>(2 * chunk_limit_bytes))
    return refused(concat("has a chunk ", chunk, " of ", bytes, " bytes"));
  Stored stored;
  stored.bytes.resize(bytes);
  if (H5Dread_chunk(values.get(), H5P_DEFAULT, at.data(), &skipped, stored.bytes.data()) < 0)
    return hdf5::failure(concat(path, ": chunk ", chunk, " of ", dataset, " cannot be read"));
  PACELINE_ASSIGN(stored.coded, is_coded(chunk, skipped, stored.bytes.size()));
  return stored;
}

Result<ForeignFile::Stored> ForeignFile::Impl::read_part(std::int64_t chunk) const {
  std::vector<hsize_t> begin(shape.size(), 0);
  std::vector<hsize_t> count(shape.begin(), shape.end());
  begin[0] = static_cast<hsize_t>(chunk * chunk_samples);
  count[0] = static_cast<hsize_t>(samples_in(chunk));
  const hdf5::Handle from(H5Dget_space(values.get()), H5Sclose);
  const hdf5::Handle to(H5Screate_simple(static_cast<int>(count.size()), count.data(), nullptr), H5Sclose);
  Stored stored;
  stored.bytes.resize(static_cast<std::size_t>(samples_in(chunk) * sample_bytes));
  if (!from.valid() || !to.valid() ||
      H5Sselect_hyperslab(from.get(), H5S_SELECT_SET, begin.data(), nullptr, count.data(), nullptr) < 0 ||
      H5Dread(values.get(), H5T_NATIVE_UINT8, to.get(), from.get(), H5P_DEFAULT, stored.bytes.data()) < 0)
    return hdf5::failure(concat(path, ": chunk ", chunk, " of ", dataset, " cannot be read"));
  return stored;
}

Result<ForeignFile::Stored> ForeignFile::read(std::int64_t chunk) {
  const hdf5::Session session;
  return impl_->is_chunked ? impl_->read_chunk(chunk) : impl_->read_part(chunk);
}

Result<bool> ForeignFile::Impl::lies_at(std::int64_t offset, const std::vector<std::byte>& bytes) const {
  if (offset < 0 || offset > file_bytes - static_cast<std::int64_t>(bytes.size())) return false;
  std::vector<std::byte> there(std::min<std::size_t>(bytes.size(), 256));
  PACELINE_TRY(read_exactly(fd.get(), there, offset, path));
  if (!std::equal(there.begin(), there.end(), bytes.begin())) return false;
  there.resize(bytes.size());
  PACELINE_TRY(read_exactly(fd.get(), there, offset, path));
  return there == bytes;
}

/// Chunks mostly lie one after the other, at times with a node of the chunks' own index between them.
std::vector<std::int64_t> ForeignFile::Impl::likely_offsets(std::int64_t chunk) const {
  if (!is_chunked) {
    const std::int64_t offset = contiguous_offset + chunk * chunk_samples * sample_bytes;
    return {offset, offset + user_block_bytes};
  }
  if (chunk == 0) return {};
  return {previous_end, previous_end + usual_gap};
}

/// Its cost grows with the number of chunks, and whether a user block is counted in depends on the version.
std::vector<std::int64_t> ForeignFile::Impl::offsets_of_library(std::int64_t chunk) const {
  if (!is_chunked) return {};
  std::vector<hsize_t> at(shape.size(), 0);
  at[0] = static_cast<hsize_t>(chunk * chunk_samples);
  unsigned mask = 0;
  haddr_t offset = HADDR_UNDEF;
  hsize_t bytes = 0;
  if (H5Dget_chunk_info_by_coord(values.get(), at.data(), &mask, &offset, &bytes) < 0 ||
      offset == HADDR_UNDEF)
    return {};
  return {static_cast<std::int64_t>(offset), static_cast<std::int64_t>(offset) + user_block_bytes};
}

Result<std::int64_t> ForeignFile::locate(std::int64_t chunk, const Stored& stored) {
  // What is said of a chunk's place is only believed where its bytes are found there.
  for (const bool guess : {true, false}) {
    std::vector<std::int64_t> offsets;
    if (guess) {
      offsets = impl_->likely_offsets(chunk);
    } else {
      const hdf5::Session session;
      offsets = impl_->offsets_of_library(chunk);
    }
    for (const std::int64_t offset : offsets) {
      PACELINE_ASSIGN(const bool found, impl_->lies_at(offset, stored.bytes));
      if (!found) continue;
      if (offset > impl_->previous_end && chunk > 0) impl_->usual_gap = offset - impl_->previous_end;
      impl_->previous_end = offset + static_cast<std::int64_t>(stored.bytes.size());
      return offset;
    }
  }
  PACELINE_ASSIGN(const FileStamp now, file_stamp(impl_->fd.get(), impl_->path));
  if (now != impl_->stamp) return impl_->refused("was written to meanwhile: close the file first");
  return impl_->refused(
      concat("has a chunk ", chunk,
             " that does not lie in this file; is it a link into another one? Then import that one"));
}

}  // namespace paceline

#include "hdf5_shard.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

#include <array>
#include <utility>

#include "hdf5_session.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/checksum.hpp"
#include "record.hpp"

namespace paceline {
namespace {

using hdf5::dimensions;
using hdf5::failure;
using hdf5::Handle;

hid_t file_type(ElementType type) {
  return type == ElementType::u8 ? H5T_STD_U8LE : type == ElementType::u16 ? H5T_STD_U16LE : H5T_STD_I32LE;
}

/// One dataset that gets its part of each record.
struct Part {
  const char* name;
  hid_t type;
  std::vector<hsize_t> shape;
  std::vector<hsize_t> chunk;
  unsigned filter;
};

/// In the order in which their parts lie in a record.
std::vector<Part> parts_of(const Manifest& manifest, const ShardEntry& entry) {
  const std::int64_t per_chunk = samples_per_chunk(manifest, entry);
  const hid_t type = file_type(manifest.type);
  const auto all = dimensions(entry.samples, {});
  const auto one = dimensions(per_chunk, {});
  std::vector<Part> parts = {{"values", type, dimensions(entry.samples, manifest.sample_shape),
                              dimensions(per_chunk, manifest.sample_shape), filter_of(manifest.storage)}};
  if (manifest.storage == Storage::jpeg) parts.push_back({"lengths", H5T_STD_U32LE, all, one, 0});
  if (manifest.kind == SampleKind::image)
    parts.push_back({"labels", H5T_STD_I32LE, all, one, 0});
  else
    parts.push_back({"following", type, dimensions(chunks_in(manifest, entry), {}), {1}, 0});
  return parts;
}

/// Nothing is written before we write it. `chunk` empty: contiguous.
Handle create_dataset(hid_t file, const Part& part) {
  const Handle space(H5Screate_simple(static_cast<int>(part.shape.size()), part.shape.data(), nullptr),
                     H5Sclose);
  const Handle properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  bool ready = space.valid() && properties.valid() &&
               H5Pset_fill_time(properties.get(), H5D_FILL_TIME_NEVER) >= 0 &&
               H5Pset_obj_track_times(properties.get(), false) >= 0;  // the same import gives the same bytes
  if (ready && !part.chunk.empty())
    ready = H5Pset_chunk(properties.get(), static_cast<int>(part.chunk.size()), part.chunk.data()) >= 0 &&
            H5Pset_alloc_time(properties.get(), H5D_ALLOC_TIME_INCR) >= 0;
  // Optional, since the library here need not know the filter.
  if (ready && part.filter != 0)
    ready = H5Pset_filter(properties.get(), static_cast<H5Z_filter_t>(part.filter), H5Z_FLAG_OPTIONAL, 0,
                          nullptr) >= 0;
  if (!ready) return {};
  return {H5Dcreate2(file, part.name, part.type, space.get(), H5P_DEFAULT, properties.get(), H5P_DEFAULT),
          H5Dclose};
}

/// Chunks that are written one after the other lie one after the other if neither small pieces of data nor
/// metadata come between them: data is allocated at the file's end at once, and metadata beforehand.
Result<Handle> create_file(const std::string& path, std::int64_t chunks) {
  const Handle access = hdf5::access_properties();
  const Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  // The library's default driver wants the real path of what it opens, and a file in memory has none.
  const bool ready =
      access.valid() && creation.valid() && H5Pset_fapl_stdio(access.get()) >= 0 &&
      H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0 &&
      H5Pset_small_data_block_size(access.get(), 0) >= 0 &&
      H5Pset_meta_block_size(access.get(), static_cast<hsize_t>(structure_bytes(chunks))) >= 0 &&
      H5Pset_obj_track_times(creation.get(), false) >= 0;  // of the root group
  if (!ready) return failure("cannot use the HDF5 library");
  Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.get(), access.get()), H5Fclose);
  if (!file.valid()) return failure("cannot create a shard in memory");
  return file;
}

Status write_record(const std::vector<Handle>& datasets, const std::vector<Part>& parts, std::int64_t chunk,
                    const NewRecord& record, const RecordShape& shape) {
  const std::array<std::int64_t, 2> tail = {shape.lengths_bytes, shape.labels_bytes};
  std::size_t next_tail = parts.size() == 3 ? 0 : 1;
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::int64_t bytes = i == 0 ? record.values_bytes : tail[next_tail++];
    std::vector<hsize_t> at(parts[i].chunk.size(), 0);
    at[0] = static_cast<hsize_t>(chunk) * parts[i].chunk[0];
    const std::uint32_t skipped = i == 0 && parts[i].filter != 0 && !record.coded ? 1 : 0;
    if (H5Dwrite_chunk(datasets[i].get(), H5P_DEFAULT, skipped, at.data(), static_cast<std::size_t>(bytes),
                       record.bytes.data() + begin) < 0)
      return failure("cannot write a chunk in memory");
    begin += bytes;
  }
  return {};
}

/// Where the library has put a chunk's part. Its cost grows with the number of chunks, so only a few are
/// asked for.
Result<std::int64_t> chunk_offset(const Handle& dataset, const Part& part, std::int64_t chunk) {
  std::vector<hsize_t> at(part.chunk.size(), 0);
  at[0] = static_cast<hsize_t>(chunk) * part.chunk[0];
  unsigned mask = 0;
  haddr_t offset = HADDR_UNDEF;
  hsize_t bytes = 0;
  if (H5Dget_chunk_info_by_coord(dataset.get(), at.data(), &mask, &offset, &bytes) < 0 ||
      offset == HADDR_UNDEF)
    return failure("cannot find a chunk in memory");
  return static_cast<std::int64_t>(offset);
}

/// The first record's offset gives all others; that of the last chunk's last part shows that nothing came
/// between.
Status set_offsets(const std::vector<Handle>& datasets, const std::vector<Part>& parts,
                   std::int64_t labels_bytes, std::vector<ChunkEntry>& chunks) {
  PACELINE_ASSIGN(std::int64_t offset, chunk_offset(datasets.front(), parts.front(), 0));
  for (ChunkEntry& chunk : chunks) {
    chunk.offset = offset;
    offset += chunk.stored_bytes;
  }
  PACELINE_ASSIGN(const std::int64_t last,
                  chunk_offset(datasets.back(), parts.back(), static_cast<std::int64_t>(chunks.size()) - 1));
  if (last == offset - labels_bytes) return {};
  return Error{ErrorCode::internal,
               "this HDF5 library does not put the parts of a shard's chunks side by side"};
}

Result<std::int64_t> write_index(hid_t file, std::span<const ChunkEntry> chunks,
                                 std::span<const std::int64_t> raw_bytes) {
  std::vector<IndexRow> rows;
  for (std::size_t i = 0; i < chunks.size(); ++i)
    rows.push_back({static_cast<std::uint64_t>(chunks[i].offset),
                    static_cast<std::uint64_t>(chunks[i].stored_bytes),
                    static_cast<std::uint64_t>(raw_bytes[i]), chunks[i].checksum});
  const Handle index = create_dataset(
      file, {"index", H5T_STD_U64LE, dimensions(static_cast<std::int64_t>(rows.size()), {4}), {}, 0});
  if (!index.valid() ||
      H5Dwrite(index.get(), H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, rows.data()) < 0)
    return failure("cannot write an index in memory");
  return static_cast<std::int64_t>(H5Dget_offset(index.get()));
}

Status write_parts(const Handle& file, const Manifest& manifest, const ShardEntry& entry,
                   std::vector<NewRecord>& records, ShardImage& image) {
  const std::vector<Part> parts = parts_of(manifest, entry);
  std::vector<Handle> datasets;
  for (const Part& part : parts) {
    datasets.push_back(create_dataset(file.get(), part));
    if (!datasets.back().valid()) return failure("cannot lay out a shard");
  }
  const RecordShape shape = record_shape(manifest, entry, 0);
  std::vector<std::int64_t> raw_bytes;
  for (NewRecord& record : records) {
    const auto stored = static_cast<std::int64_t>(record.bytes.size());
    PACELINE_TRY(
        write_record(datasets, parts, static_cast<std::int64_t>(image.chunks.size()), record, shape));
    image.chunks.push_back({0, stored, checksum_of(record.bytes)});
    raw_bytes.push_back(manifest.storage == Storage::jpeg ? stored : shape.values_bytes + shape.tail_bytes());
    record = {};
  }
  PACELINE_TRY(set_offsets(datasets, parts, shape.labels_bytes, image.chunks));
  PACELINE_ASSIGN(image.index_offset, write_index(file.get(), image.chunks, raw_bytes));
  return {};
}

Result<ShardImage> empty_image() {
  ShardImage image;
  image.file.reset(::memfd_create("paceline-shard", MFD_CLOEXEC));
  if (!image.file.valid()) return system_error("cannot create a file in memory");
  return image;
}

std::string path_of(const ShardImage& image) {
  return concat("/proc/self/fd/", image.file.get());
}

/// Nothing is written before the library closes the file.
Status finish(Handle& file, ShardImage& image) {
  if (!file.close()) return failure("cannot finish a shard in memory");
  struct stat status {};
  if (::fstat(image.file.get(), &status) != 0) return system_error("cannot stat a file in memory");
  image.bytes = status.st_size;
  return {};
}

/// That every record lies where the index will say.
Status check_image(const ShardImage& image) {
  std::vector<std::byte> bytes;
  for (const ChunkEntry& chunk : image.chunks) {
    bytes.resize(static_cast<std::size_t>(chunk.stored_bytes));
    PACELINE_TRY(read_exactly(image.file.get(), bytes, chunk.offset, "a shard in memory"));
    if (checksum_of(bytes) != chunk.checksum)
      return Error{ErrorCode::internal, "the HDF5 library has put a chunk elsewhere than it says"};
  }
  return {};
}

}  // namespace

std::int64_t structure_bytes(std::int64_t chunks) noexcept {
  // Object headers, and an entry of up to 20 bytes for each chunk of up to three datasets.
  return 4096 + 56 * chunks;
}

Result<ShardImage> make_shard_image(const Manifest& manifest, std::int64_t samples,
                                    std::vector<NewRecord>& records) {
  ShardEntry entry;
  entry.samples = samples;
  PACELINE_ASSIGN(ShardImage image, empty_image());
  {
    const hdf5::Session session;
    PACELINE_ASSIGN(Handle file, create_file(path_of(image), static_cast<std::int64_t>(records.size())));
    PACELINE_TRY(write_parts(file, manifest, entry, records, image));
    PACELINE_TRY(finish(file, image));
  }
  PACELINE_TRY(check_image(image));
  return image;
}

Result<ShardImage> make_labels_image(std::span<const std::int32_t> labels, std::vector<ChunkEntry> chunks,
                                     std::span<const std::int64_t> raw_bytes) {
  PACELINE_ASSIGN(ShardImage image, empty_image());
  image.chunks = std::move(chunks);
  const hdf5::Session session;
  PACELINE_ASSIGN(Handle file, create_file(path_of(image), 0));
  {
    const Handle dataset = create_dataset(
        file.get(),
        {"labels", H5T_STD_I32LE, dimensions(static_cast<std::int64_t>(labels.size()), {}), {}, 0});
    if (!dataset.valid() ||
        H5Dwrite(dataset.get(), H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, labels.data()) < 0)
      return failure("cannot write labels in memory");
    image.labels_offset = static_cast<std::int64_t>(H5Dget_offset(dataset.get()));
  }
  PACELINE_ASSIGN(image.index_offset, write_index(file.get(), image.chunks, raw_bytes));
  PACELINE_TRY(finish(file, image));
  return image;
}

}  // namespace paceline

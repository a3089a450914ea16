#include "hdf5_shard.hpp"

#include <hdf5.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <mutex>
#include <string_view>
#include <utility>

#include "checksum.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

/// Every use of the library: one at a time, since it may be built without thread safety and has one global
/// lock even with it; and without its own error printing.
class Session {
 public:
  Session() : lock_(mutex()) {
    H5Eget_auto2(H5E_DEFAULT, &print_, &print_data_);
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  }
  ~Session() { H5Eset_auto2(H5E_DEFAULT, print_, print_data_); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

 private:
  static std::mutex& mutex() {
    static std::mutex the_mutex;  // guards the library's own global state, so there is one of it
    return the_mutex;
  }
  std::lock_guard<std::mutex> lock_;
  H5E_auto2_t print_ = nullptr;
  void* print_data_ = nullptr;
};

/// Owns one HDF5 identifier.
class Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Handle(hid_t id, Close how) : id_(id), close_(how) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}
  Handle& operator=(Handle&&) = delete;
  ~Handle() {
    if (valid()) close_(id_);
  }
  [[nodiscard]] hid_t get() const noexcept { return id_; }
  [[nodiscard]] bool valid() const noexcept { return id_ >= 0; }
  /// Closing writes what is still in memory, so it can fail like a write.
  [[nodiscard]] bool close() noexcept { return close_(std::exchange(id_, H5I_INVALID_HID)) >= 0; }

 private:
  hid_t id_;
  Close close_;
};

herr_t keep_deepest(unsigned depth, const H5E_error2_t* entry, void* text) {
  if (depth == 0 && entry->desc != nullptr) *static_cast<std::string*>(text) = entry->desc;
  return 0;
}

/// To be called at once after the call that failed: the next call clears the library's error stack.
Error failure(std::string_view what) {
  std::string deepest = "no reason given";
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_deepest, &deepest);
  return {ErrorCode::io, concat(what, " (HDF5: ", deepest, ")")};
}

std::vector<hsize_t> dimensions(std::int64_t first, const std::vector<std::int64_t>& rest) {
  std::vector<hsize_t> result = {static_cast<hsize_t>(first)};
  result.insert(result.end(), rest.begin(), rest.end());
  return result;
}

/// No lock files and no flock: distributed filesystems are often mounted without them.
Handle access_properties() {
  Handle properties(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  if (properties.valid()) {
    H5Pset_file_locking(properties.get(), false, true);
    // 1.10's file format: chunks that are allocated early need no chunk index and lie one after the other.
    H5Pset_libver_bounds(properties.get(), H5F_LIBVER_V110, H5F_LIBVER_V110);
  }
  return properties;
}

/// Space is allocated at once and nothing is written to it: offsets are known, and the data is ours to write.
Handle create_dataset(hid_t file, const char* name, hid_t type, const std::vector<hsize_t>& shape,
                      const std::vector<hsize_t>& chunk) {
  const Handle space(H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr), H5Sclose);
  const Handle properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  const bool ready =
      space.valid() && properties.valid() &&
      (chunk.empty() || H5Pset_chunk(properties.get(), static_cast<int>(chunk.size()), chunk.data()) >= 0) &&
      H5Pset_alloc_time(properties.get(), H5D_ALLOC_TIME_EARLY) >= 0 &&
      H5Pset_fill_time(properties.get(), H5D_FILL_TIME_NEVER) >= 0 &&
      H5Pset_obj_track_times(properties.get(), false) >= 0;  // the same import gives the same bytes
  if (!ready) return Handle(H5I_INVALID_HID, H5Dclose);
  return Handle(H5Dcreate2(file, name, type, space.get(), H5P_DEFAULT, properties.get(), H5P_DEFAULT),
                H5Dclose);
}

/// The library's cost for one chunk's offset grows with the number of chunks, so only the first and the last
/// are asked for; that all others lie between them without gaps follows from their count and size.
bool locate_chunks(hid_t values, const ShardShape& shape, std::int64_t& offset) {
  std::vector<hsize_t> first(shape.sample_shape.size() + 1, 0);
  std::vector<hsize_t> last = first;
  last[0] = static_cast<hsize_t>((shape.chunks - 1) * shape.chunk_samples);
  unsigned mask = 0;
  haddr_t first_offset = 0;
  haddr_t last_offset = 0;
  hsize_t first_bytes = 0;
  hsize_t last_bytes = 0;
  if (H5Dget_chunk_info_by_coord(values, first.data(), &mask, &first_offset, &first_bytes) < 0 ||
      H5Dget_chunk_info_by_coord(values, last.data(), &mask, &last_offset, &last_bytes) < 0)
    return false;
  offset = static_cast<std::int64_t>(first_offset);
  const auto chunk_bytes = static_cast<hsize_t>(shape.chunk_bytes);
  return first_bytes == chunk_bytes && last_bytes == chunk_bytes && first_offset != HADDR_UNDEF &&
         last_offset - first_offset == static_cast<haddr_t>(shape.chunks - 1) * chunk_bytes;
}

bool create_datasets(hid_t file, const ShardShape& shape, ShardLayout& layout) {
  const Handle values =
      create_dataset(file, "values", H5T_STD_U8LE, dimensions(shape.samples, shape.sample_shape),
                     dimensions(shape.chunk_samples, shape.sample_shape));
  if (!values.valid()) return false;
  const Handle labels = create_dataset(file, "labels", H5T_STD_I32LE, dimensions(shape.samples, {}), {});
  if (!labels.valid()) return false;
  const Handle index = create_dataset(file, "index", H5T_STD_U64LE, dimensions(shape.chunks, {4}), {});
  if (!index.valid() || !locate_chunks(values.get(), shape, layout.values_offset)) return false;
  const haddr_t labels_offset = H5Dget_offset(labels.get());
  const haddr_t index_offset = H5Dget_offset(index.get());
  layout.labels_offset = static_cast<std::int64_t>(labels_offset);
  layout.index_offset = static_cast<std::int64_t>(index_offset);
  return labels_offset != HADDR_UNDEF && index_offset != HADDR_UNDEF;
}

bool has_shape_and_type(hid_t dataset, const std::vector<hsize_t>& shape, H5T_sign_t sign,
                        std::size_t bytes) {
  const Handle space(H5Dget_space(dataset), H5Sclose);
  const Handle type(H5Dget_type(dataset), H5Tclose);
  if (!space.valid() || !type.valid()) return false;
  if (H5Sget_simple_extent_ndims(space.get()) != static_cast<int>(shape.size())) return false;
  std::vector<hsize_t> actual(shape.size());
  H5Sget_simple_extent_dims(space.get(), actual.data(), nullptr);
  return actual == shape && H5Tget_class(type.get()) == H5T_INTEGER && H5Tget_size(type.get()) == bytes &&
         H5Tget_sign(type.get()) == sign;
}

bool has_chunks(hid_t dataset, const std::vector<hsize_t>& chunk) {
  const Handle properties(H5Dget_create_plist(dataset), H5Pclose);
  std::vector<hsize_t> actual(chunk.size());
  return properties.valid() && H5Pget_layout(properties.get()) == H5D_CHUNKED &&
         H5Pget_nfilters(properties.get()) == 0 &&
         H5Pget_chunk(properties.get(), static_cast<int>(chunk.size()), actual.data()) ==
             static_cast<int>(chunk.size()) &&
         actual == chunk;
}

Error disagrees(const Shard& shard, std::string_view what) {
  return {ErrorCode::corrupt, concat(shard.path, ": through the HDF5 library ", what,
                                     "; write the shard again as docs/dataset-format.md says")};
}

Status check_values(hid_t file, const Shard& shard, const Manifest& manifest) {
  const Handle values(H5Dopen2(file, "values", H5P_DEFAULT), H5Dclose);
  const std::int64_t per_chunk = samples_per_chunk(manifest, shard.entry);
  if (!values.valid() ||
      !has_shape_and_type(values.get(), dimensions(shard.entry.samples, manifest.sample_shape), H5T_SGN_NONE,
                          1) ||
      !has_chunks(values.get(), dimensions(per_chunk, manifest.sample_shape)))
    return disagrees(shard, "`values` has not the manifest's shape, type u8 and unfiltered chunks");
  std::vector<hsize_t> at(manifest.sample_shape.size() + 1, 0);
  std::vector<std::byte> bytes(static_cast<std::size_t>(per_chunk * manifest.sample_bytes));
  for (std::size_t chunk = 0; chunk < shard.chunks.size(); ++chunk) {
    at[0] = chunk * static_cast<hsize_t>(per_chunk);
    hsize_t stored = 0;  // H5Dread_chunk is not told how large our buffer is
    std::uint32_t filter_mask = 0;
    if (H5Dget_chunk_storage_size(values.get(), at.data(), &stored) < 0 || stored != bytes.size() ||
        H5Dread_chunk(values.get(), H5P_DEFAULT, at.data(), &filter_mask, bytes.data()) < 0 ||
        filter_mask != 0 || checksum_of(bytes) != shard.chunks[chunk].checksum)
      return disagrees(shard, concat("chunk ", chunk, " has other bytes than at the index's offset"));
  }
  return {};
}

Status check_labels(hid_t file, const Shard& shard) {
  const Handle labels(H5Dopen2(file, "labels", H5P_DEFAULT), H5Dclose);
  std::vector<std::int32_t> through(shard.labels.size());
  if (!labels.valid() ||
      !has_shape_and_type(labels.get(), dimensions(shard.entry.samples, {}), H5T_SGN_2, 4) ||
      H5Dread(labels.get(), H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, through.data()) < 0 ||
      through != shard.labels)
    return disagrees(shard, "`labels` is not what lies at the manifest's labels_offset");
  return {};
}

Status check_index(hid_t file, const Shard& shard) {
  const Handle index(H5Dopen2(file, "index", H5P_DEFAULT), H5Dclose);
  std::vector<IndexRow> rows(shard.chunks.size());
  bool same = index.valid() &&
              has_shape_and_type(index.get(), dimensions(static_cast<std::int64_t>(rows.size()), {4}),
                                 H5T_SGN_NONE, 8) &&
              H5Dread(index.get(), H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, rows.data()) >= 0;
  for (std::size_t i = 0; same && i < rows.size(); ++i)
    same = rows[i].offset == static_cast<std::uint64_t>(shard.chunks[i].offset) &&
           rows[i].checksum == shard.chunks[i].checksum;
  if (same) return {};
  return disagrees(shard, "`index` is not what lies at the manifest's index_offset");
}

}  // namespace

Result<ShardSkeleton> make_skeleton(const ShardShape& shape) {
  ShardSkeleton skeleton;
  skeleton.fd.reset(::memfd_create("paceline-shard", MFD_CLOEXEC));
  if (!skeleton.fd.valid()) return system_error("cannot create a file in memory");
  const std::string path = concat("/proc/self/fd/", skeleton.fd.get());

  const Session session;
  const Handle access = access_properties();
  // The library's default driver wants the real path of what it opens, and a file in memory has none.
  if (!access.valid() || H5Pset_fapl_stdio(access.get()) < 0) return failure("cannot use the HDF5 library");
  const Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  if (!creation.valid() || H5Pset_obj_track_times(creation.get(), false) < 0)  // of the root group
    return failure("cannot use the HDF5 library");
  Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.get(), access.get()), H5Fclose);
  if (!file.valid()) return failure("cannot create a shard in memory");
  if (!create_datasets(file.get(), shape, skeleton.layout)) return failure("cannot lay out a shard");
  if (!file.close()) return failure("cannot finish a shard in memory");
  struct stat status {};
  if (::fstat(skeleton.fd.get(), &status) != 0) return system_error("cannot stat a file in memory");
  skeleton.bytes = status.st_size;
  return skeleton;
}

Status check_with_hdf5(const Shard& shard, const Manifest& manifest) {
  const Session session;
  const Handle access = access_properties();
  if (!access.valid()) return failure("cannot use the HDF5 library");
  const Handle file(H5Fopen(shard.path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose);
  if (!file.valid()) return failure(concat(shard.path, " cannot be opened"));
  PACELINE_TRY(check_values(file.get(), shard, manifest));
  PACELINE_TRY(check_labels(file.get(), shard));
  return check_index(file.get(), shard);
}

}  // namespace paceline

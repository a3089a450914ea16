#include "hdf5_check.hpp"

#include <algorithm>
#include <vector>

#include "hdf5_foreign.hpp"
#include "hdf5_session.hpp"
#include "hdf5_shard.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/checksum.hpp"
#include "record.hpp"

namespace paceline {
namespace {

using hdf5::dimensions;
using hdf5::Handle;

/// One shard and what the library sees of it.
struct View {
  const std::string path;  // of the file that is looked into
  const Manifest& manifest;
  const ShardEntry& entry;
  std::span<const ChunkEntry> chunks;

  [[nodiscard]] Error disagrees(std::string_view what) const {
    return {ErrorCode::corrupt,
            concat(path, ": through the HDF5 library ", what,
                   entry.values ? "; import it again"
                                : "; write the shard again as docs/dataset-format.md says")};
  }
};

Result<Handle> open_file(const std::string& path) {
  const Handle access = hdf5::access_properties();
  if (!access.valid()) return hdf5::failure("cannot use the HDF5 library");
  Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose);
  if (!file.valid()) return hdf5::failure(concat(path, " cannot be opened"));
  return file;
}

/// What a dataset must be. `chunk` empty: contiguous.
struct Expected {
  const char* name;
  std::vector<hsize_t> shape;
  std::vector<hsize_t> chunk;
  H5T_sign_t sign;
  std::int64_t element_bytes;
  unsigned filter;
};

bool has_shape_and_type(const Handle& dataset, const Expected& expected) {
  const Handle space(H5Dget_space(dataset.get()), H5Sclose);
  const Handle type(H5Dget_type(dataset.get()), H5Tclose);
  if (!space.valid() || !type.valid()) return false;
  if (H5Sget_simple_extent_ndims(space.get()) != static_cast<int>(expected.shape.size())) return false;
  std::vector<hsize_t> shape(expected.shape.size());
  H5Sget_simple_extent_dims(space.get(), shape.data(), nullptr);
  return shape == expected.shape && H5Tget_class(type.get()) == H5T_INTEGER &&
         H5Tget_size(type.get()) == static_cast<std::size_t>(expected.element_bytes) &&
         H5Tget_sign(type.get()) == expected.sign && H5Tget_order(type.get()) != H5T_ORDER_BE;
}

bool has_filter(const Handle& properties, unsigned filter) {
  const int count = H5Pget_nfilters(properties.get());
  if (filter == 0) return count == 0;
  unsigned flags = 0;
  std::size_t values = 0;
  return count == 1 && H5Pget_filter2(properties.get(), 0, &flags, &values, nullptr, 0, nullptr, nullptr) ==
                           static_cast<H5Z_filter_t>(filter);
}

bool has_layout(const Handle& dataset, const Expected& expected) {
  const Handle properties(H5Dget_create_plist(dataset.get()), H5Pclose);
  if (!properties.valid()) return false;
  if (expected.chunk.empty()) return H5Pget_layout(properties.get()) == H5D_CONTIGUOUS;
  std::vector<hsize_t> chunk(expected.chunk.size());
  return H5Pget_layout(properties.get()) == H5D_CHUNKED && has_filter(properties, expected.filter) &&
         H5Pget_chunk(properties.get(), static_cast<int>(chunk.size()), chunk.data()) ==
             static_cast<int>(chunk.size()) &&
         chunk == expected.chunk;
}

Result<Handle> open_dataset(const View& view, const Handle& file, const Expected& expected) {
  Handle dataset(H5Dopen2(file.get(), expected.name, H5P_DEFAULT), H5Dclose);
  if (dataset.valid() && has_shape_and_type(dataset, expected) && has_layout(dataset, expected))
    return dataset;
  return view.disagrees(
      concat("`", expected.name, "` has not the shape, type, chunks and filter that the manifest asks for"));
}

/// In the order in which their parts lie in a record.
std::vector<Expected> expected_parts(const Manifest& manifest, const ShardEntry& entry) {
  const std::int64_t per_chunk = samples_per_chunk(manifest, entry);
  const std::int64_t bytes = bytes_of(manifest.type);
  const H5T_sign_t sign = manifest.type == ElementType::i32 ? H5T_SGN_2 : H5T_SGN_NONE;
  const auto all = dimensions(entry.samples, {});
  const auto one = dimensions(per_chunk, {});
  std::vector<Expected> parts = {{"values", dimensions(entry.samples, manifest.sample_shape),
                                  dimensions(per_chunk, manifest.sample_shape), sign, bytes,
                                  filter_of(manifest.storage)}};
  if (manifest.storage == Storage::jpeg) parts.push_back({"lengths", all, one, H5T_SGN_NONE, 4, 0});
  if (manifest.kind == SampleKind::image)
    parts.push_back({"labels", all, one, H5T_SGN_2, 4, 0});
  else
    parts.push_back({"following", dimensions(chunks_in(manifest, entry), {}), {1}, sign, bytes, 0});
  return parts;
}

/// A chunk as it is stored, appended to `into`. H5Dread_chunk is not told how large our buffer is, so the
/// length is asked for first.
bool read_part(const Handle& dataset, const Expected& part, std::size_t chunk, std::vector<std::byte>& into,
               std::uint32_t& mask) {
  std::vector<hsize_t> at(part.chunk.size(), 0);
  at[0] = chunk * part.chunk[0];
  hsize_t bytes = 0;
  if (H5Dget_chunk_storage_size(dataset.get(), at.data(), &bytes) < 0 ||
      bytes > static_cast<hsize_t>(2 * chunk_limit_bytes))
    return false;
  const std::size_t before = into.size();
  into.resize(before + bytes);
  return bytes > 0 && H5Dread_chunk(dataset.get(), H5P_DEFAULT, at.data(), &mask, into.data() + before) >= 0;
}

/// Every record, put together from the chunks that the library finds, has the index's checksum.
Status check_records(const View& view, const Handle& file) {
  const std::vector<Expected> parts = expected_parts(view.manifest, view.entry);
  std::vector<Handle> datasets;
  for (const Expected& part : parts) {
    PACELINE_ASSIGN(Handle dataset, open_dataset(view, file, part));
    datasets.push_back(std::move(dataset));
  }
  const RecordShape shape = record_shape(view.manifest, view.entry, 0);
  std::vector<std::byte> record;
  for (std::size_t chunk = 0; chunk < view.chunks.size(); ++chunk) {
    record.clear();
    bool same = true;
    std::uint32_t values_mask = 0;
    for (std::size_t i = 0; i < parts.size() && same; ++i) {
      std::uint32_t mask = 0;
      same = read_part(datasets[i], parts[i], chunk, record, mask) && (i == 0 || mask == 0);
      if (i == 0) values_mask = mask;
    }
    const bool as_it_is = view.manifest.storage != Storage::jpeg && parts[0].filter != 0 &&
                          static_cast<std::int64_t>(record.size()) == shape.values_bytes + shape.tail_bytes();
    if (!same || values_mask != (as_it_is ? 1U : 0U) || checksum_of(record) != view.chunks[chunk].checksum)
      return view.disagrees(concat("chunk ", chunk, " has other bytes than at the index's offset"));
  }
  return {};
}

Status check_index(const View& view, const Handle& file) {
  std::vector<IndexRow> rows(view.chunks.size());
  const Expected expected = {
      "index", dimensions(static_cast<std::int64_t>(rows.size()), {4}), {}, H5T_SGN_NONE, 8, 0};
  PACELINE_ASSIGN(const Handle index, open_dataset(view, file, expected));
  bool same = H5Dread(index.get(), H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, rows.data()) >= 0;
  for (std::size_t i = 0; same && i < rows.size(); ++i)
    same = rows[i].offset == static_cast<std::uint64_t>(view.chunks[i].offset) &&
           rows[i].checksum == view.chunks[i].checksum;
  if (same) return {};
  return view.disagrees("`index` is not what lies at the manifest's index_offset");
}

Result<std::vector<std::int32_t>> read_labels(const View& view, const Handle& file) {
  const Expected expected = {"labels", dimensions(view.entry.samples, {}), {}, H5T_SGN_2, 4, 0};
  PACELINE_ASSIGN(const Handle dataset, open_dataset(view, file, expected));
  std::vector<std::int32_t> labels(static_cast<std::size_t>(view.entry.samples));
  if (H5Dread(dataset.get(), H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, labels.data()) < 0)
    return hdf5::failure(concat(view.path, ": its labels cannot be read"));
  return labels;
}

/// The shapes that a sample may have in the file: rows and columns may stand there without their one channel.
bool is_shape_of_samples(const std::vector<std::int64_t>& shape, const Manifest& manifest) {
  std::vector<std::int64_t> sizes(shape.begin() + 1, shape.end());
  if (sizes.size() == 2) sizes.insert(sizes.begin(), 1);
  return sizes == manifest.sample_shape;
}

/// A file of someone else: its chunks have the bytes that the index tells of, followed by our labels.
Status check_foreign(const View& view, const std::string& folder, const std::vector<std::int32_t>& labels) {
  const View there = {values_path(folder, view.entry), view.manifest, view.entry, view.chunks};
  PACELINE_ASSIGN(ForeignFile file, ForeignFile::open(there.path, view.entry.values->dataset));
  const std::int64_t per_chunk = view.entry.values->chunk_samples;
  file.set_chunk_samples(per_chunk);
  if (!is_shape_of_samples(file.shape(), view.manifest) || file.shape()[0] != view.entry.samples ||
      file.chunk_samples() != per_chunk || file.chunked() != view.entry.values->padded)
    return there.disagrees(
        concat(view.entry.values->dataset, " has not the shape and chunks of the manifest"));
  for (std::size_t chunk = 0; chunk < view.chunks.size(); ++chunk) {
    PACELINE_ASSIGN(const ForeignFile::Stored stored, file.read(static_cast<std::int64_t>(chunk)));
    const RecordShape shape = record_shape(view.manifest, view.entry, static_cast<std::int64_t>(chunk));
    RunningChecksum checksum;
    checksum.add(stored.bytes);
    checksum.add(std::as_bytes(std::span(labels).subspan(chunk * static_cast<std::size_t>(per_chunk),
                                                         static_cast<std::size_t>(shape.samples))));
    const bool coded = static_cast<std::int64_t>(stored.bytes.size()) != shape.values_bytes;
    if (coded != stored.coded || checksum.value() != view.chunks[chunk].checksum)
      return there.disagrees(concat("chunk ", chunk, " has other bytes than at the index's offset"));
  }
  return {};
}

}  // namespace

Status check_with_hdf5(const std::string& folder, const Manifest& manifest, const ShardEntry& entry,
                       std::span<const ChunkEntry> chunks) {
  const View view = {shard_path(folder, entry), manifest, entry, chunks};
  std::vector<std::int32_t> labels;
  {
    const hdf5::Session session;
    PACELINE_ASSIGN(const Handle file, open_file(view.path));
    if (entry.values) {
      PACELINE_ASSIGN(labels, read_labels(view, file));
    } else {
      PACELINE_TRY(check_records(view, file));
    }
    PACELINE_TRY(check_index(view, file));
  }
  return entry.values ? check_foreign(view, folder, labels) : Status();
}

}  // namespace paceline

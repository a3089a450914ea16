#include "hdf5_foreign.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "hdf5_foreign_impl.hpp"
#include "manifest.hpp"
#include "open_files.hpp"
#include "paceline/base/text.hpp"
#include "shard.hpp"

namespace paceline {
namespace {

using hdf5::Handle;

constexpr H5Z_filter_t filter_deflate = 1;
constexpr H5Z_filter_t filter_shuffle = 2;  // of single bytes changes nothing

std::string shape_text(const std::vector<hsize_t>& shape) {
  std::string text;
  for (const hsize_t size : shape) text += concat(text.empty() ? "" : "x", size);
  return text;
}

std::string type_text(hid_t type) {
  const std::size_t bits = 8 * H5Tget_size(type);
  switch (H5Tget_class(type)) {
    case H5T_INTEGER: return concat(H5Tget_sign(type) == H5T_SGN_NONE ? "u" : "i", bits);
    case H5T_FLOAT: return concat("f", bits);
    case H5T_STRING: return "text";
    case H5T_ENUM: return "enumeration";
    case H5T_COMPOUND: return "compound";
    default: return "something else";
  }
}

/// Says so where a file's superblock shows that it is being written, or was when its writer ended. The
/// library refuses it too, but tells less.
Status check_closed(int fd, const std::string& path, std::int64_t file_bytes) {
  constexpr std::array<unsigned char, 8> signature = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
  std::array<std::byte, 12> head{};
  for (std::int64_t at = 0; at + 12 <= file_bytes; at = at == 0 ? 512 : 2 * at) {
    PACELINE_TRY(read_exactly(fd, head, at, path));
    if (std::memcmp(head.data(), signature.data(), signature.size()) != 0) continue;
    const bool has_mark = std::to_integer<int>(head[8]) >= 3;
    const int being_written = std::to_integer<int>(head[11]) & 5;
    if (!has_mark || being_written == 0) return {};
    return Error{ErrorCode::invalid_argument, concat(path,
                                                     " is being written, or its writer did not close it: "
                                                     "close it, or repair it with h5clear --status")};
  }
  return Error{ErrorCode::invalid_argument, concat(path, " is not an HDF5 file")};
}

}  // namespace

Error ForeignFile::Impl::refused(std::string_view what) const {
  return {ErrorCode::unsupported, concat(path, ": ", dataset, " ", what)};
}

Status ForeignFile::Impl::open_file() {
  PACELINE_ASSIGN(fd, open_for_reading(path));
  PACELINE_ASSIGN(stamp, file_stamp(fd.get(), path));
  file_bytes = stamp.bytes;
  PACELINE_TRY(check_closed(fd.get(), path, file_bytes));
  const Handle access = hdf5::access_properties();
  if (!access.valid()) return hdf5::failure("cannot use the HDF5 library");
  file = Handle(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose);
  if (!file.valid()) return hdf5::failure(concat(path, " cannot be opened"));
  const Handle creation(H5Fget_create_plist(file.get()), H5Pclose);
  hsize_t bytes = 0;
  if (!creation.valid() || H5Pget_userblock(creation.get(), &bytes) < 0)
    return hdf5::failure(concat(path, " cannot be read"));
  user_block_bytes = static_cast<std::int64_t>(bytes);
  return {};
}

Status ForeignFile::Impl::open_dataset() {
  values = Handle(H5Dopen2(file.get(), dataset.c_str(), H5P_DEFAULT), H5Dclose);
  if (!values.valid())
    return Error{ErrorCode::not_found,
                 concat(path, " has no dataset ", dataset, ": name the one that holds the values")};
  const Handle type(H5Dget_type(values.get()), H5Tclose);
  const Handle space(H5Dget_space(values.get()), H5Sclose);
  if (!type.valid() || !space.valid()) return hdf5::failure(concat(path, ": ", dataset, " cannot be read"));
  if (H5Tget_class(type.get()) != H5T_INTEGER || H5Tget_size(type.get()) != 1 ||
      H5Tget_sign(type.get()) != H5T_SGN_NONE)
    return refused(
        concat("has values of type ", type_text(type.get()), ", and only u8 can be used as it is"));
  const int rank =
      H5Sget_simple_extent_type(space.get()) == H5S_SIMPLE ? H5Sget_simple_extent_ndims(space.get()) : 0;
  std::vector<hsize_t> sizes(static_cast<std::size_t>(std::max(rank, 0)));
  if (rank < 2 || rank > 4 || H5Sget_simple_extent_dims(space.get(), sizes.data(), nullptr) < 0)
    return refused(concat("has ", rank, " dimensions, and not 2 to 4 with the samples first"));
  sample_bytes = 1;
  for (const hsize_t size : sizes) {
    const bool first = shape.empty();
    const auto most = static_cast<hsize_t>(first ? sample_count_limit : chunk_limit_bytes);
    if (size < 1 || size > most)
      return refused(concat("is ", shape_text(sizes), ", which is empty or too large"));
    shape.push_back(static_cast<std::int64_t>(size));
    if (!first) sample_bytes *= shape.back();  // both factors <= 2^30
    if (sample_bytes > chunk_limit_bytes)
      return refused(concat("is ", shape_text(sizes), ", with samples of more than 1 GiB"));
  }
  return read_storage();
}

Status ForeignFile::Impl::read_storage() {
  const Handle properties(H5Dget_create_plist(values.get()), H5Pclose);
  if (!properties.valid()) return hdf5::failure(concat(path, ": ", dataset, " cannot be read"));
  if (H5Pget_external_count(properties.get()) > 0)
    return refused("lies in other files than this one (external storage)");
  switch (H5Pget_layout(properties.get())) {
    case H5D_CONTIGUOUS: return read_contiguous();
    case H5D_CHUNKED: return read_chunks(properties);
    case H5D_COMPACT:
      return refused("is so small that HDF5 keeps it in a header (compact storage): import it otherwise");
    default:
      return refused(
          "is put together from other datasets (virtual storage): import the files that hold them");
  }
}

Status ForeignFile::Impl::read_contiguous() {
  const haddr_t offset = H5Dget_offset(values.get());
  if (offset == HADDR_UNDEF) return refused("was never written to");
  contiguous_offset = static_cast<std::int64_t>(offset);
  return {};
}

Status ForeignFile::Impl::read_chunks(const Handle& properties) {
  std::vector<hsize_t> chunk(shape.size());
  if (H5Pget_chunk(properties.get(), static_cast<int>(chunk.size()), chunk.data()) !=
      static_cast<int>(chunk.size()))
    return hdf5::failure(concat(path, ": ", dataset, " cannot be read"));
  for (std::size_t i = 1; i < chunk.size(); ++i)
    if (static_cast<std::int64_t>(chunk[i]) != shape[i])
      return refused(concat("has chunks of ", shape_text(chunk),
                            ", which hold parts of samples: write it again with chunks of whole samples"));
  const auto most = std::min(chunk_samples_limit, chunk_limit_bytes / sample_bytes);
  if (chunk[0] > static_cast<hsize_t>(most))
    return refused(
        concat("has chunks of ", shape_text(chunk), ", larger than 1 GiB: write it again with smaller ones"));
  is_chunked = true;
  chunk_samples = static_cast<std::int64_t>(chunk[0]);
  unsigned options = 0;
  if (H5Pget_chunk_opts(properties.get(), &options) < 0)
    return hdf5::failure(concat(path, ": ", dataset, " cannot be read"));
  edge_is_never_coded = (options & H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS) != 0;
  return read_filters(properties);
}

Status ForeignFile::Impl::read_filters(const Handle& properties) {
  const int filters = H5Pget_nfilters(properties.get());
  for (int i = 0; i < filters; ++i) {
    unsigned flags = 0;
    std::size_t parameters = 0;
    std::array<char, 64> name{};
    const H5Z_filter_t filter = H5Pget_filter2(properties.get(), static_cast<unsigned>(i), &flags,
                                               &parameters, nullptr, name.size(), name.data(), nullptr);
    if (filter == filter_shuffle) continue;
    if (filter != filter_deflate || deflate_bit != 0)
      return refused(concat(
          "is stored with the filter ", name[0] == '\0' ? "without a name" : name.data(), " (", filter,
          "), and only gzip or none can be used as it is: write it again, e.g. with h5repack -f GZIP=1"));
    deflate_bit = 1U << i;
  }
  return {};
}

ForeignFile::ForeignFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
}
ForeignFile::ForeignFile(ForeignFile&&) noexcept = default;
ForeignFile::~ForeignFile() {
  if (impl_ == nullptr) return;
  const hdf5::Session session;
  impl_.reset();
}

Result<ForeignFile> ForeignFile::open(const std::string& path, const std::string& dataset) {
  ForeignFile opened(std::make_unique<Impl>());
  opened.impl_->path = path;
  opened.impl_->dataset = dataset;
  const hdf5::Session session;
  Status status = opened.impl_->open_file();
  if (status.ok()) status = opened.impl_->open_dataset();
  if (status.ok()) return opened;
  opened.impl_.reset();  // while the library is ours
  return std::move(status).error();
}

Result<std::vector<std::int64_t>> ForeignFile::read_labels(const std::string& name) {
  const std::string what = concat(impl_->path, ": ", name, " ");
  const hdf5::Session session;
  const Handle labels(H5Dopen2(impl_->file.get(), name.c_str(), H5P_DEFAULT), H5Dclose);
  if (!labels.valid())
    return Error{ErrorCode::not_found,
                 concat(impl_->path, " has no dataset ", name, ": name the one that holds the labels")};
  const Handle type(H5Dget_type(labels.get()), H5Tclose);
  const Handle space(H5Dget_space(labels.get()), H5Sclose);
  if (!type.valid() || !space.valid()) return hdf5::failure(concat(what, "cannot be read"));
  if (H5Tget_class(type.get()) != H5T_INTEGER)
    return Error{ErrorCode::unsupported,
                 concat(what, "has labels of type ", type_text(type.get()), ", and not integers")};
  std::vector<hsize_t> sizes(static_cast<std::size_t>(std::max(H5Sget_simple_extent_ndims(space.get()), 0)));
  if (sizes.empty() || H5Sget_simple_extent_dims(space.get(), sizes.data(), nullptr) < 0 ||
      std::any_of(sizes.begin() + 1, sizes.end(), [](hsize_t size) { return size != 1; }))
    return Error{ErrorCode::unsupported,
                 concat(what, "is ", shape_text(sizes), ", and not one label for each sample")};
  if (static_cast<std::int64_t>(sizes[0]) != impl_->shape[0])
    return Error{ErrorCode::invalid_argument,
                 concat(what, "has ", sizes[0], " labels, and ", impl_->dataset, " has ", impl_->shape[0],
                        " samples; do they belong together?")};
  std::vector<std::int64_t> read(sizes[0]);
  if (H5Dread(labels.get(), H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, read.data()) < 0)
    return hdf5::failure(concat(what, "cannot be read"));
  return read;
}

const std::vector<std::int64_t>& ForeignFile::shape() const noexcept {
  return impl_->shape;
}
bool ForeignFile::chunked() const noexcept {
  return impl_->is_chunked;
}
bool ForeignFile::deflated() const noexcept {
  return impl_->deflate_bit != 0;
}
std::int64_t ForeignFile::bytes() const noexcept {
  return impl_->file_bytes;
}
std::int64_t ForeignFile::chunk_samples() const noexcept {
  return impl_->chunk_samples;
}
void ForeignFile::set_chunk_samples(std::int64_t samples) noexcept {
  if (!impl_->is_chunked) impl_->chunk_samples = samples;
}

}  // namespace paceline

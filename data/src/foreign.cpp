#include "paceline/data/foreign.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <utility>

#include "dataset_folder.hpp"
#include "file_size_signal.hpp"
#include "foreign_shape.hpp"
#include "hdf5_foreign.hpp"
#include "manifest.hpp"
#include "moments.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/checksum.hpp"
#include "paceline/data/dataset.hpp"
#include "shard_writer.hpp"
#include "staging_folder.hpp"

namespace paceline {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t label_bytes = sizeof(std::int32_t);

/// How many classes the user says that there are; 0: it is not said.
std::int64_t stated_classes(const ForeignOptions& options) {
  return options.classes > 0 ? options.classes : static_cast<std::int64_t>(options.class_names.size());
}

/// One file with its labels. It is not kept open: there may be more files than a process may have
/// descriptors.
struct Source {
  std::string path;                 ///< absolute
  std::string listed;               ///< as it stands in the manifest
  std::vector<std::int64_t> shape;  ///< samples first
  std::int64_t chunk_samples = 0;
  std::vector<std::int32_t> labels;
};

/// One import: what all its steps need to know.
struct Import {
  const ForeignOptions& options;
  SpaceReport report;
  std::string folder;  ///< in which files are written
};

Status cancelled(const Import& import) {
  if (!import.options.cancelled || !import.options.cancelled()) return {};
  return Error{ErrorCode::aborted, concat("the import into ", import.report.out, " was cancelled")};
}

Result<std::vector<std::int32_t>> read_labels(ForeignFile& file, const std::string& path,
                                              const ForeignOptions& options) {
  PACELINE_ASSIGN(const std::vector<std::int64_t> read, file.read_labels(options.labels));
  const std::int64_t classes = stated_classes(options) > 0 ? stated_classes(options) : sample_count_limit;
  std::vector<std::int32_t> labels;
  labels.reserve(read.size());
  for (const std::int64_t label : read) {
    if (label < 0 || label >= classes)
      return Error{ErrorCode::invalid_argument, concat(path, ": ", options.labels, ": label ", labels.size(),
                                                       " is ", label, ", and labels are 0 to ", classes - 1)};
    labels.push_back(static_cast<std::int32_t>(label));
  }
  return labels;
}

std::int64_t default_chunk_samples(std::int64_t sample_bytes) {
  constexpr std::int64_t wanted_bytes = std::int64_t{256} << 10;
  return std::clamp<std::int64_t>(wanted_bytes / sample_bytes, 1, 1024);
}

/// Opens a file and adds what it holds to the manifest.
Status add_source(const ForeignOptions& options, const std::string& path, Manifest& manifest,
                  std::vector<Source>& sources) {
  PACELINE_ASSIGN(ForeignFile file, ForeignFile::open(path, options.values));
  PACELINE_ASSIGN(const ForeignShape shape, shape_of_samples(file.shape(), options.layout));
  if (sources.empty()) {
    manifest.sample_shape = shape.sizes;
    manifest.layout = shape.layout;
  }
  if (shape.sizes != manifest.sample_shape || shape.layout != manifest.layout)
    return Error{ErrorCode::invalid_argument,
                 concat(path, ": ", options.values, " has samples of another shape than ",
                        sources.front().path, ": import it into a folder of its own")};
  const std::int64_t most = std::min(chunk_samples_limit, chunk_limit_bytes / sample_bytes(manifest));
  if (options.chunk_samples < 0 || options.chunk_samples > most)
    return Error{ErrorCode::invalid_argument,
                 concat("chunks of ", options.chunk_samples, " samples: use 1 to ", most)};
  file.set_chunk_samples(options.chunk_samples > 0 ? options.chunk_samples
                                                   : default_chunk_samples(sample_bytes(manifest)));
  PACELINE_ASSIGN(std::vector<std::int32_t> labels, read_labels(file, path, options));
  manifest.samples += file.shape()[0];
  if (manifest.samples > sample_count_limit)
    return Error{ErrorCode::unsupported, concat("these files have more than ", sample_count_limit,
                                                " samples together: import them into several folders")};
  manifest.chunk_samples = std::max(manifest.chunk_samples, file.chunk_samples());
  if (file.deflated()) manifest.storage = Storage::deflate;
  const std::int64_t highest = *std::max_element(labels.begin(), labels.end());
  manifest.classes =
      stated_classes(options) > 0 ? stated_classes(options) : std::max(manifest.classes, highest + 1);
  sources.push_back({path, path, file.shape(), file.chunk_samples(), std::move(labels)});
  return {};
}

/// A file's index in the making.
struct Index {
  std::vector<ChunkEntry> chunks;
  std::vector<std::int64_t> raw_bytes;
};

/// Finds a chunk in its file and takes its checksum and moments.
Status add_chunk(const Source& source, ForeignFile& file, std::int64_t chunk, std::int64_t one_sample,
                 Index& index, Moments& moments) {
  PACELINE_ASSIGN(const ForeignFile::Stored stored, file.read(chunk));
  PACELINE_ASSIGN(const std::int64_t offset, file.locate(chunk, stored));
  const std::int64_t per_chunk = source.chunk_samples;
  const std::int64_t samples = std::min(per_chunk, source.shape[0] - chunk * per_chunk);
  const std::int64_t values_bytes = (file.chunked() ? per_chunk : samples) * one_sample;
  std::vector<std::byte> decoded;
  if (stored.coded) {
    decoded.resize(static_cast<std::size_t>(values_bytes));
    const Status status = decode_values(Storage::deflate, stored.bytes, decoded);
    if (!status.ok())
      return Error{ErrorCode::corrupt,
                   concat(source.path, ": chunk ", chunk, " at byte ", offset, ": ", status.error().message)};
  }
  const std::span<const std::byte> values = stored.coded ? decoded : stored.bytes;
  moments.add(values.first(static_cast<std::size_t>(samples * one_sample)));
  const auto labels = std::as_bytes(
      std::span(source.labels)
          .subspan(static_cast<std::size_t>(chunk * per_chunk), static_cast<std::size_t>(samples)));
  RunningChecksum checksum;
  checksum.add(stored.bytes);
  checksum.add(labels);
  index.chunks.push_back(
      {offset, static_cast<std::int64_t>(stored.bytes.size() + labels.size()), checksum.value()});
  index.raw_bytes.push_back(values_bytes + samples * label_bytes);
  return {};
}

std::string index_name(std::size_t number) {
  char name[32];
  std::snprintf(name, sizeof name, "index-%05zu.h5", number);
  return name;
}

Status import_file(const Import& import, const Source& source, Manifest& manifest, Moments& moments) {
  PACELINE_ASSIGN(ForeignFile file, ForeignFile::open(source.path, import.options.values));
  file.set_chunk_samples(source.chunk_samples);
  if (file.shape() != source.shape || file.chunk_samples() != source.chunk_samples)
    return Error{ErrorCode::invalid_argument,
                 concat(source.path, " was written to meanwhile: close it first")};
  ShardEntry entry;
  entry.file = index_name(manifest.shards.size());
  entry.samples = source.shape[0];
  entry.values =
      ForeignValues{source.listed, file.bytes(), import.options.values, source.chunk_samples, file.chunked()};
  Index index;
  for (std::int64_t chunk = 0; chunk < chunks_in(manifest, entry); ++chunk) {
    PACELINE_TRY(cancelled(import));
    PACELINE_TRY(add_chunk(source, file, chunk, sample_bytes(manifest), index, moments));
  }
  const std::string path = concat(import.folder, "/", entry.file);
  const auto chunks = static_cast<std::int64_t>(index.chunks.size());
  const std::int64_t most =
      entry.samples * label_bytes + chunks * std::int64_t{sizeof(IndexRow)} + 2 * structure_bytes(0);
  PACELINE_ASSIGN(const UniqueFd fd, create_shard_file(import.report, path, most));
  PACELINE_ASSIGN(const ShardImage image,
                  make_labels_image(source.labels, std::move(index.chunks), index.raw_bytes));
  PACELINE_TRY(write_shard(import.report, path, fd, image, entry));
  manifest.shards.push_back(std::move(entry));
  return {};
}

/// Index shards and manifest, which is read back.
Status import_files(const Import& import, const std::vector<Source>& sources, Manifest manifest) {
  Moments moments(manifest.sample_shape, manifest.layout);
  for (const Source& source : sources) PACELINE_TRY(import_file(import, source, manifest, moments));
  manifest.mean = moments.mean();
  manifest.standard_deviation = moments.standard_deviation();
  const std::string& folder = import.folder;
  PACELINE_TRY(write_new_file(import.report, concat(folder, "/manifest.json"), render_manifest(manifest)));
  PACELINE_TRY(sync_path(import.report, folder));
  PACELINE_TRY(cancelled(import));
  PACELINE_ASSIGN(const std::vector<std::string> faults, verify_dataset(folder));
  if (faults.empty()) return {};
  return Error{ErrorCode::io, concat("what was just written does not read back: ", faults.front())};
}

/// What makes a folder in which the files themselves lie a dataset; without it, nothing is left of the
/// attempt.
class FilesInFolder {
 public:
  FilesInFolder(std::string folder, std::size_t shards) : folder_(std::move(folder)) {
    for (std::size_t shard = 0; shard < shards; ++shard) names_.push_back(index_name(shard));
    names_.emplace_back("manifest.json");  // last made, first removed
  }
  ~FilesInFolder() {
    std::error_code ignored;  // a destructor has no one to tell
    for (auto name = names_.rbegin(); name != names_.rend(); ++name)
      fs::remove(fs::path(folder_) / *name, ignored);
  }
  FilesInFolder(const FilesInFolder&) = delete;
  FilesInFolder& operator=(const FilesInFolder&) = delete;

  [[nodiscard]] Status check_free() const {
    for (const std::string& name : names_)
      if (fs::exists(fs::path(folder_) / name))
        return Error{ErrorCode::already_exists,
                     concat(folder_, "/", name, " is already there: remove it, or import elsewhere")};
    return {};
  }
  void keep() { names_.clear(); }

 private:
  std::string folder_;
  std::vector<std::string> names_;
};

Result<std::string> real_path(const std::string& path) {
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  if (error) return system_error(concat("cannot find ", path), error.value());
  return real.string();
}

/// The path within `folder`; nothing for a path elsewhere.
std::optional<std::string> path_within(const std::string& folder, const std::string& path) {
  const std::string begin = folder == "/" ? folder : concat(folder, "/");
  if (!path.starts_with(begin)) return std::nullopt;
  return path.substr(begin.size());
}

Status import_in_place(const ForeignOptions& options, Import import, std::vector<Source>& sources,
                       Manifest manifest) {
  for (Source& source : sources)
    if (const auto within = path_within(import.folder, source.path)) source.listed = *within;
  FilesInFolder files(import.folder, sources.size());
  const Status free = files.check_free();
  if (!free.ok()) {
    files.keep();  // they are someone else's
    return free;
  }
  PACELINE_TRY(import_files(import, sources, std::move(manifest)));
  files.keep();
  return sync_path(import.report, options.out);
}

Status check_options(const ForeignOptions& options) {
  if (options.files.empty()) return Error{ErrorCode::invalid_argument, "no HDF5 file to import was named"};
  if (options.out.empty()) return Error{ErrorCode::invalid_argument, "no folder to import into was named"};
  if (options.classes < 0 || options.classes > sample_count_limit)
    return Error{ErrorCode::invalid_argument,
                 concat(options.classes, " classes: use 1 to ", sample_count_limit)};
  return {};
}

Status check_class_names(const ForeignOptions& options, std::int64_t classes) {
  const auto names = static_cast<std::int64_t>(options.class_names.size());
  if (names == 0 || names == classes) return {};
  return Error{ErrorCode::invalid_argument, concat(names, " names for ", classes, " classes: give each one")};
}

/// What is common to all files, and the files.
Status open_sources(const ForeignOptions& options, Manifest& manifest, std::vector<Source>& sources) {
  const std::string name = fs::path(without_trailing_slashes(options.out)).filename().string();
  manifest.name = options.name.empty() ? name : options.name;
  manifest.class_names = options.class_names;
  for (const std::string& path : options.files) {
    PACELINE_ASSIGN(const std::string real, real_path(path));
    if (std::any_of(sources.begin(), sources.end(),
                    [&](const Source& source) { return source.path == real; }))
      return Error{ErrorCode::invalid_argument, concat(path, " is named twice")};
    PACELINE_TRY(add_source(options, real, manifest, sources));
  }
  PACELINE_TRY(check_class_names(options, manifest.classes));
  return check_text(manifest, options.files);
}

}  // namespace

Status import_foreign(const ForeignOptions& options) {
  PACELINE_TRY(check_options(options));
  Manifest manifest;
  std::vector<Source> sources;
  PACELINE_TRY(open_sources(options, manifest, sources));
  const std::int64_t needed_bytes = manifest.samples * (label_bytes + 1);
  const HoldFileSizeSignal hold;
  Import import{options, {options.out, needed_bytes}, {}};
  std::error_code missing;  // then it is a new folder
  import.folder = fs::canonical(options.out, missing).string();
  const bool inside = !missing && std::any_of(sources.begin(), sources.end(), [&](const Source& source) {
    return path_within(import.folder, source.path).has_value();
  });
  if (inside) return import_in_place(options, import, sources, std::move(manifest));
  PACELINE_ASSIGN(StagingFolder staging, StagingFolder::create(options.out));
  import.folder = staging.path();
  PACELINE_TRY(import_files(import, sources, std::move(manifest)));
  return staging.publish(import.report);
}

}  // namespace paceline

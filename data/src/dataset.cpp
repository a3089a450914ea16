#include "paceline/data/dataset.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "dataset_folder.hpp"
#include "manifest.hpp"
#include "open_files.hpp"
#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"
#include "shard.hpp"

namespace paceline {
namespace {

namespace fs = std::filesystem;

DatasetInfo describe(const std::string& path, const Manifest& manifest) {
  DatasetInfo info;
  info.path = path;
  info.name = manifest.name;
  info.task = manifest.task;
  info.samples = manifest.samples;
  info.sample_shape = manifest.sample_shape;
  info.sample_bytes = manifest.sample_bytes;
  info.classes = manifest.classes;
  info.chunk_samples = manifest.chunk_samples;
  info.shards = static_cast<std::int64_t>(manifest.shards.size());
  for (const ShardEntry& shard : manifest.shards) {
    info.chunks += chunks_in(manifest, shard);
    info.stored_bytes += shard.bytes;
  }
  info.mean = manifest.mean;
  info.standard_deviation = manifest.standard_deviation;
  return info;
}

std::vector<std::string> datasets_within(const std::string& path) {
  std::vector<std::string> names;
  std::error_code ignored;  // an unreadable folder has no datasets to name
  for (fs::directory_iterator entry(path, ignored), end; !ignored && entry != end; entry.increment(ignored))
    if (fs::exists(entry->path() / "manifest.json", ignored)) names.push_back(entry->path().filename());
  std::sort(names.begin(), names.end());
  if (names.size() > 8) names.resize(8);
  return names;
}

Error not_a_dataset(const std::string& path) {
  const std::vector<std::string> children = datasets_within(path);
  if (!children.empty()) {
    std::string choices;
    for (const std::string& child : children)
      choices += concat(choices.empty() ? "" : " or ", path, "/", child);
    return {ErrorCode::invalid_argument, concat(path, " is a folder of datasets: use ", choices)};
  }
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 && (errno == ENOENT || errno == ENOTDIR))
    return {ErrorCode::not_found,
            concat("there is no dataset at ", path, ": make one with `paceline data import`")};
  return {ErrorCode::invalid_argument,
          concat(path,
                 " is not a dataset folder: it has no manifest.json; make one with `paceline data import`")};
}

}  // namespace

Result<Manifest> read_manifest(const std::string& folder) {
  const std::string path = concat(folder, "/manifest.json");
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return not_a_dataset(folder);
    return system_error(concat("cannot open ", path));
  }
  PACELINE_ASSIGN(std::string text, read_file(path, static_cast<std::size_t>(manifest_limit_bytes)));
  return parse_manifest(std::move(text), path);
}

std::string without_trailing_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

struct Dataset::Impl {
  DatasetInfo info;
  std::vector<Shard> shards;
  std::vector<std::int64_t> first_chunk;  // of each shard
  std::vector<std::int64_t> chunk_samples;
  std::unique_ptr<OpenFiles> files;

  [[nodiscard]] Result<Chunk> read(std::size_t shard, std::size_t chunk) const {
    PACELINE_ASSIGN(const OpenFiles::File file, files->get(shard));
    PACELINE_ASSIGN(std::vector<std::byte> values, read_stored_chunk(file->get(), shards[shard], chunk));
    const ChunkEntry& entry = shards[shard].chunks[chunk];
    Chunk result;
    result.samples = entry.samples;
    values.resize(static_cast<std::size_t>(entry.samples * info.sample_bytes));  // drops an edge's padding
    result.values = std::move(values);
    const auto per_chunk = std::min(info.chunk_samples, shards[shard].entry.samples);
    const auto first = shards[shard].labels.begin() + static_cast<std::int64_t>(chunk) * per_chunk;
    result.labels.assign(first, first + entry.samples);
    return result;
  }

  void forget(std::size_t shard, std::size_t chunk) const {
    const Result<OpenFiles::File> file = files->get(shard);
    if (!file.ok()) return;  // the second try will say why
    const ChunkEntry& entry = shards[shard].chunks[chunk];
    forget_cached((*file)->get(), entry.offset, entry.stored_bytes);
    files->forget(shard);
  }
};

Dataset::Dataset(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
}
Dataset::Dataset(Dataset&&) noexcept = default;
Dataset& Dataset::operator=(Dataset&&) noexcept = default;
Dataset::~Dataset() = default;

Result<Dataset> Dataset::open(const std::string& given_path) {
  const std::string path = without_trailing_slashes(given_path);
  PACELINE_ASSIGN(const Manifest manifest, read_manifest(path));
  auto impl = std::make_unique<Impl>();
  impl->info = describe(path, manifest);
  std::vector<std::string> paths;
  for (const ShardEntry& entry : manifest.shards) {
    PACELINE_ASSIGN(Shard shard, load_shard(path, manifest, entry));
    impl->first_chunk.push_back(static_cast<std::int64_t>(impl->chunk_samples.size()));
    for (const ChunkEntry& chunk : shard.chunks) impl->chunk_samples.push_back(chunk.samples);
    paths.push_back(shard.path);
    impl->shards.push_back(std::move(shard));
  }
  impl->files = std::make_unique<OpenFiles>(std::move(paths));
  return Dataset(std::move(impl));
}

const DatasetInfo& Dataset::info() const noexcept {
  return impl_->info;
}

std::span<const std::int64_t> Dataset::chunk_samples() const noexcept {
  return impl_->chunk_samples;
}

Result<Chunk> Dataset::read_chunk(std::int64_t chunk) const {
  if (chunk < 0 || chunk >= impl_->info.chunks)
    return Error{ErrorCode::invalid_argument,
                 concat(impl_->info.path, " has chunks 0 to ", impl_->info.chunks - 1, ", not ", chunk)};
  const auto& first_chunk = impl_->first_chunk;
  const auto after = std::upper_bound(first_chunk.begin(), first_chunk.end(), chunk);
  const auto shard = static_cast<std::size_t>(after - first_chunk.begin()) - 1;
  const auto within = static_cast<std::size_t>(chunk - first_chunk[shard]);

  Result<Chunk> first = impl_->read(shard, within);
  if (first.ok()) return first;
  impl_->forget(shard, within);
  Result<Chunk> second = impl_->read(shard, within);
  if (second.ok()) log(LogLevel::warning, first.error().message, " (read again, and then it was right)");
  return second;
}

}  // namespace paceline

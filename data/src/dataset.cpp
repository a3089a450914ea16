#include "paceline/data/dataset.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "dataset_folder.hpp"
#include "manifest.hpp"
#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"
#include "stored_dataset.hpp"

namespace paceline {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t pool_of_read_chunk_bytes = std::int64_t{8} << 20;

DatasetInfo info_of(const std::string& path, const Manifest& manifest) {
  DatasetInfo info;
  info.path = path;
  info.name = manifest.name;
  info.kind = manifest.kind;
  info.dtype = to_string(manifest.type);
  info.storage = to_string(manifest.storage);
  info.samples = manifest.samples;
  info.sample_shape = manifest.sample_shape;
  info.sample_bytes = sample_bytes(manifest);
  info.classes = manifest.classes;
  info.class_names = manifest.class_names;
  info.vocabulary = manifest.vocabulary;
  info.tokenizer = manifest.tokenizer;
  info.chunk_samples = manifest.chunk_samples;
  info.shards = static_cast<std::int64_t>(manifest.shards.size());
  for (const ShardEntry& shard : manifest.shards) {
    info.chunks += chunks_in(manifest, shard);
    info.stored_bytes += shard.bytes + (shard.values ? shard.values->bytes : 0);
  }
  info.chunk_bytes = largest_chunk_bytes(manifest);
  info.mean = manifest.mean;
  info.standard_deviation = manifest.standard_deviation;
  if (manifest.kind == SampleKind::image) {
    info.task = "image-classification";
    info.layout = to_string(manifest.layout);
  } else {
    info.task = "language-modelling";
    info.tokens = manifest.samples;
    if (info.tokenizer != "bytes") info.tokenizer = concat(path, "/", info.tokenizer);
  }
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
  Impl(const std::string& path, Manifest manifest)
      : info(info_of(path, manifest)), stored(path, std::move(manifest)), pool(pool_of_read_chunk_bytes) {}

  [[nodiscard]] Status list_chunks(const DatasetOptions& options);
  [[nodiscard]] Status set_window(std::int64_t asked);
  [[nodiscard]] Result<ChunkAddress> find(std::int64_t chunk) const;
  [[nodiscard]] Windows windows(std::int64_t chunk) const { return {window, chunk == info.chunks - 1}; }
  [[nodiscard]] Result<Chunk> read(std::int64_t chunk, const ChunkAddress& at);

  DatasetInfo info;
  StoredDataset stored;
  std::int64_t window = 0;                // of tokens
  std::vector<std::int64_t> first_chunk;  // of each shard
  std::vector<std::int32_t> chunk_samples;
  BufferPool pool;  // of read_chunk
};

Status Dataset::Impl::set_window(std::int64_t asked) {
  if (asked < 0 || asked > info.chunk_samples)
    return Error{ErrorCode::invalid_argument,
                 concat(info.path, ": windows of ", asked, " tokens: use 1 to ", info.chunk_samples,
                        ", as many as a chunk has, or import it with larger chunks")};
  window = asked == 0 ? info.chunk_samples : asked;
  info.sample_shape = {window};
  info.sample_bytes *= window + 1;
  return {};
}

Status Dataset::Impl::list_chunks(const DatasetOptions& options) {
  const Manifest& manifest = stored.manifest();
  const bool tokens = manifest.kind == SampleKind::tokens;
  if (tokens) PACELINE_TRY(set_window(options.window));
  chunk_samples.reserve(static_cast<std::size_t>(info.chunks));
  std::int64_t samples = 0;
  for (const ShardEntry& entry : manifest.shards) {
    first_chunk.push_back(static_cast<std::int64_t>(chunk_samples.size()));
    for (std::int64_t chunk = 0; chunk < chunks_in(manifest, entry); ++chunk) {
      const auto number = static_cast<std::int64_t>(chunk_samples.size());
      std::int64_t here = record_shape(manifest, entry, chunk).samples;
      if (tokens) here = windows_in(here, windows(number));
      chunk_samples.push_back(static_cast<std::int32_t>(here));
      samples += here;
    }
  }
  info.samples = samples;
  if (tokens) info.chunk_samples /= window;
  const bool none = samples == 0 && options.window > 0;
  if (samples <= sample_count_limit && !none) return {};
  return Error{ErrorCode::invalid_argument,
               concat(info.path, ": its ", info.tokens, " tokens make ", samples, " windows of ", window,
                      " tokens: use ", none ? "shorter" : "longer", " ones")};
}

Result<ChunkAddress> Dataset::Impl::find(std::int64_t chunk) const {
  if (chunk < 0 || chunk >= info.chunks)
    return Error{ErrorCode::invalid_argument,
                 concat(info.path, " has chunks 0 to ", info.chunks - 1, ", not ", chunk)};
  const auto after = std::upper_bound(first_chunk.begin(), first_chunk.end(), chunk);
  const auto shard = static_cast<std::size_t>(after - first_chunk.begin()) - 1;
  return ChunkAddress{shard, chunk - first_chunk[shard]};
}

Result<Chunk> Dataset::Impl::read(std::int64_t chunk, const ChunkAddress& at) {
  PACELINE_ASSIGN(ByteBuffer bytes, stored.read(at, pool));
  return stored.decode(at, windows(chunk), std::move(bytes), pool);
}

Dataset::Dataset(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {
}

Result<Dataset> Dataset::open(const std::string& given_path, DatasetOptions options) {
  const std::string path = without_trailing_slashes(given_path);
  PACELINE_ASSIGN(Manifest manifest, read_manifest(path));
  for (const ShardEntry& entry : manifest.shards) PACELINE_TRY(check_files(path, entry));
  auto impl = std::make_shared<Impl>(path, std::move(manifest));
  PACELINE_TRY(impl->list_chunks(options));
  return Dataset(std::move(impl));
}

const DatasetInfo& Dataset::info() const noexcept {
  return impl_->info;
}

std::span<const std::int32_t> Dataset::chunk_samples() const noexcept {
  return impl_->chunk_samples;
}

Result<ChunkPlace> Dataset::place(std::int64_t chunk) const {
  PACELINE_ASSIGN(const ChunkAddress at, impl_->find(chunk));
  return impl_->stored.place(at);
}

Result<Chunk> Dataset::decode(std::int64_t chunk, ByteBuffer stored, BufferPool& pool) const {
  PACELINE_ASSIGN(const ChunkAddress at, impl_->find(chunk));
  return impl_->stored.decode(at, impl_->windows(chunk), std::move(stored), pool);
}

void Dataset::forget(std::int64_t chunk) const {
  const Result<ChunkAddress> at = impl_->find(chunk);
  if (at.ok()) impl_->stored.forget(*at);
}

std::string Dataset::describe(std::int64_t chunk) const {
  const Result<ChunkAddress> at = impl_->find(chunk);
  return at.ok() ? impl_->stored.describe(*at) : at.error().message;
}

Result<Chunk> Dataset::read_chunk(std::int64_t chunk) const {
  PACELINE_ASSIGN(const ChunkAddress at, impl_->find(chunk));
  Result<Chunk> first = impl_->read(chunk, at);
  if (first.ok()) return first;
  impl_->stored.forget(at);
  Result<Chunk> second = impl_->read(chunk, at);
  if (second.ok()) log(LogLevel::warning, first.error().message, " (read again, and then it was right)");
  return second;
}

}  // namespace paceline

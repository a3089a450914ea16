#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dataset_folder.hpp"
#include "hdf5_check.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/dataset.hpp"
#include "stored_dataset.hpp"

namespace paceline {
namespace {

constexpr std::size_t faults_listed = 10;
constexpr std::int64_t kept_bytes = std::int64_t{64} << 20;

template <class T>
std::int64_t token_at(std::span<const std::byte> tokens, std::int64_t i) {
  T token = 0;
  std::memcpy(&token, tokens.data() + i * std::int64_t{sizeof token}, sizeof token);
  return token;
}

std::int64_t token_at(std::span<const std::byte> tokens, ElementType type, std::int64_t i) {
  switch (type) {
    case ElementType::u8: return token_at<std::uint8_t>(tokens, i);
    case ElementType::u16: return token_at<std::uint16_t>(tokens, i);
    case ElementType::i32: return token_at<std::int32_t>(tokens, i);
  }
  return 0;
}

class Verification {
 public:
  Verification(const std::string& folder, Manifest manifest)
      : dataset_(folder, std::move(manifest)), pool_(kept_bytes) {}

  std::vector<std::string> run() {
    for (std::size_t shard = 0; shard < dataset_.manifest().shards.size() && !full(); ++shard) {
      const std::size_t before = faults_.size();
      const Status checked = check_chunks(shard);
      if (!checked.ok()) following_.reset();
      note(checked);
      // The HDF5 library sees only what has been found right.
      if (faults_.size() == before) note(check_library(shard));
    }
    return std::move(faults_);
  }

 private:
  [[nodiscard]] bool full() const { return faults_.size() >= faults_listed; }
  void note(const Status& status) {
    if (!status.ok() && !full()) faults_.push_back(status.error().message);
  }

  /// The error is one of the whole shard; those of its chunks are noted.
  Status check_chunks(std::size_t shard) {
    PACELINE_TRY(check_files(dataset_.folder(), dataset_.manifest().shards[shard]));
    PACELINE_ASSIGN(const std::span<const ChunkEntry> chunks, dataset_.index(shard));
    for (std::size_t chunk = 0; chunk < chunks.size() && !full(); ++chunk) {
      const Status checked = check_chunk({shard, static_cast<std::int64_t>(chunk)});
      if (!checked.ok()) following_.reset();
      note(checked);
    }
    return {};
  }

  Status check_chunk(const ChunkAddress& at) {
    const ShardEntry& entry = dataset_.manifest().shards[at.shard];
    PACELINE_ASSIGN(ByteBuffer stored, dataset_.read(at, pool_));
    // All tokens as one window, with the one that follows them.
    const Windows windows = {record_shape(dataset_.manifest(), entry, at.chunk).samples, false};
    PACELINE_ASSIGN(const Chunk chunk, dataset_.decode(at, windows, std::move(stored), pool_));
    if (dataset_.manifest().kind == SampleKind::image) return {};  // decode() has looked at the labels
    return check_tokens(at, chunk.sample(0), windows.tokens);
  }

  Status check_tokens(const ChunkAddress& at, std::span<const std::byte> tokens, std::int64_t count) {
    const Manifest& manifest = dataset_.manifest();
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t token = token_at(tokens, manifest.type, i);
      if (token < 0 || token >= manifest.vocabulary)
        return bad_shard(dataset_.describe(at), concat("its token ", i, " is ", token, " where there are ",
                                                       manifest.vocabulary, " different ones"));
    }
    const std::int64_t first = token_at(tokens, manifest.type, 0);
    const std::optional<std::int64_t> promised =
        std::exchange(following_, token_at(tokens, manifest.type, count));
    if (!promised || *promised == first) return {};
    return bad_shard(dataset_.describe(at),
                     concat("its first token is ", first, ", and the chunk before it says that ", *promised,
                            " follows it"));
  }

  Status check_library(std::size_t shard) {
    PACELINE_ASSIGN(const std::span<const ChunkEntry> chunks, dataset_.index(shard));
    return check_with_hdf5(dataset_.folder(), dataset_.manifest(), dataset_.manifest().shards[shard], chunks);
  }

  StoredDataset dataset_;
  BufferPool pool_;
  std::vector<std::string> faults_;
  std::optional<std::int64_t> following_;  // what the chunk before says that follows it
};

}  // namespace

Result<std::vector<std::string>> verify_dataset(const std::string& given_path) {
  const std::string path = without_trailing_slashes(given_path);
  PACELINE_ASSIGN(Manifest manifest, read_manifest(path));
  return Verification(path, std::move(manifest)).run();
}

}  // namespace paceline

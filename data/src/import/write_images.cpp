#include <algorithm>
#include <bit>
#include <map>
#include <mutex>

#include "dataset_writer.hpp"
#include "image_source.hpp"
#include "moments.hpp"
#include "paceline/base/text.hpp"
#include "picture.hpp"
#include "shard_builder.hpp"

namespace paceline {
namespace {

constexpr int jpeg_quality = 92;
constexpr std::int64_t chunk_bytes_wanted = std::int64_t{256} << 10;
constexpr std::int64_t most_chunk_samples = 1024;

/// The picture that the values of a sample are, for encoding: channels innermost.
Picture picture_of(const Manifest& manifest, std::span<const std::byte> values) {
  return {manifest.sample_shape[0],
          manifest.sample_shape[1],
          manifest.sample_shape[2],
          {values.begin(), values.end()}};
}

/// Writes one split: threads take parts of a shard's size from the source, and fill a shard each.
class ImageWriter {
 public:
  ImageWriter(ImportRun& run, std::string folder, ImageSplit& split)
      : run_(run), folder_(std::move(folder)), split_(split), moments_(new_moments()) {
    Manifest& manifest = split_.manifest;
    manifest.chunk_samples = run_.options().chunk_samples;
    if (manifest.chunk_samples == 0) {
      const auto fitting = static_cast<std::uint64_t>(chunk_bytes_wanted / split_.item_bytes);
      manifest.chunk_samples =
          std::clamp(static_cast<std::int64_t>(std::bit_floor(fitting)), std::int64_t{1}, most_chunk_samples);
    }
    part_items_ = shard_samples_for(run_.options(), split_.source->items() * split_.item_bytes,
                                    split_.item_bytes, manifest.chunk_samples);
  }

  Status write() {
    const std::int64_t most = chunk_limit_bytes / sample_bytes(split_.manifest);
    if (split_.manifest.chunk_samples > most)
      return Error{ErrorCode::invalid_argument, concat("chunks of ", split_.manifest.chunk_samples,
                                                       " samples of this size: use 1 to ", most)};
    PACELINE_TRY(make_dataset_folder(run_, folder_));
    run_.begin(split_.name, split_.source->items(), false);
    PACELINE_TRY(run_.run_threads([this] { return work(); }));
    PACELINE_TRY(split_.source->expect_end());
    Manifest& manifest = split_.manifest;
    for (auto& [number, entry] : shards_) {
      manifest.samples += entry.samples;
      manifest.shards.push_back(std::move(entry));
    }
    manifest.largest_record_bytes = largest_record_bytes_;
    manifest.mean = moments_.mean();
    manifest.standard_deviation = moments_.standard_deviation();
    return finish_dataset(run_, folder_, manifest);
  }

 private:
  struct Turn {
    std::size_t number = 0;
    std::unique_ptr<ImagePart> part;  // null: no more
  };

  [[nodiscard]] Moments new_moments() const {
    const Manifest& manifest = split_.manifest;
    return {manifest.sample_shape, manifest.layout};
  }

  Result<Turn> take_turn() {
    const std::lock_guard lock(mutex_);
    Turn turn{next_part_, nullptr};
    const std::int64_t count = std::min(part_items_, split_.source->items() - next_item_);
    if (count == 0) return turn;
    PACELINE_ASSIGN(turn.part, split_.source->take(next_item_, count));
    next_item_ += count;
    ++next_part_;
    return turn;
  }

  Status work() {
    Moments moments = new_moments();
    while (true) {
      PACELINE_TRY(run_.check_cancelled());
      PACELINE_ASSIGN(Turn turn, take_turn());
      if (turn.part == nullptr) break;
      PACELINE_TRY(write_shard(turn, moments));
    }
    const std::lock_guard lock(mutex_);
    moments_.add(moments);
    return {};
  }

  Status write_shard(Turn& turn, Moments& moments) {
    ShardBuilder builder(split_.manifest);
    std::int64_t told = 0;
    while (true) {
      PACELINE_ASSIGN(const std::optional<ImageSample> sample, turn.part->next());
      if (!sample) break;
      moments.add(sample->values);
      PACELINE_TRY(add(builder, *sample));
      if (builder.samples() % split_.manifest.chunk_samples != 0) continue;
      run_.advance(builder.samples() - told);
      told = builder.samples();
      PACELINE_TRY(run_.check_cancelled());
    }
    run_.advance(builder.samples() - told);
    if (builder.samples() == 0) return {};  // all of it was bad
    PACELINE_ASSIGN(ShardEntry entry, builder.write(run_.report(), folder_, shard_name(turn.number), 0));
    const std::lock_guard lock(mutex_);
    largest_record_bytes_ = std::max(largest_record_bytes_, builder.largest_record_bytes());
    shards_.emplace(turn.number, std::move(entry));
    return {};
  }

  Status add(ShardBuilder& builder, const ImageSample& sample) {
    if (split_.manifest.storage != Storage::jpeg) return builder.add(sample.values, sample.label);
    if (!sample.encoded.empty()) return builder.add(sample.encoded, sample.label);
    PACELINE_ASSIGN(const std::vector<std::byte> encoded,
                    encode_jpeg(picture_of(split_.manifest, sample.values), jpeg_quality));
    return builder.add(encoded, sample.label);
  }

  ImportRun& run_;
  std::string folder_;
  ImageSplit& split_;
  std::int64_t part_items_ = 0;

  std::mutex mutex_;
  std::int64_t next_item_ = 0;
  std::size_t next_part_ = 0;
  std::map<std::size_t, ShardEntry> shards_;
  std::int64_t largest_record_bytes_ = 0;
  Moments moments_;
};

}  // namespace

Result<std::optional<ImageSample>> StoredPart::next() {
  if (at_ == labels_.size()) return std::optional<ImageSample>();
  const std::size_t bytes = values_.size() / labels_.size();
  ImageSample sample;
  sample.values = std::span<const std::byte>(values_).subspan(at_ * bytes, bytes);
  sample.label = labels_[at_++];
  return std::optional(sample);
}

Status write_images(ImportRun& run, const std::string& folder, ImageSplit& split) {
  return ImageWriter(run, concat(folder, "/", split.name), split).write();
}

}  // namespace paceline

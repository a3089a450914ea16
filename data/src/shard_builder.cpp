#include "shard_builder.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "paceline/base/assert.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

template <class T>
void append(std::vector<std::byte>& into, const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  into.insert(into.end(), bytes.begin(), bytes.end());
}

}  // namespace

ShardBuilder::ShardBuilder(const Manifest& manifest)
    : manifest_(manifest), sample_bytes_(sample_bytes(manifest)) {
  manifest_.shards.clear();
  PACELINE_ASSERT(manifest.chunk_samples > 0 && manifest.storage != Storage::deflate,
                  "a chunk size and a storage to write");
}

Status ShardBuilder::add(std::span<const std::byte> sample, std::int32_t label) {
  PACELINE_ASSERT(manifest_.kind == SampleKind::image, "tokens are added with add_tokens()");
  const bool jpeg = manifest_.storage == Storage::jpeg;
  PACELINE_ASSERT(jpeg || static_cast<std::int64_t>(sample.size()) == sample_bytes_,
                  "a sample has the manifest's shape");
  if (label < 0 || label >= manifest_.classes)
    return Error{ErrorCode::invalid_argument, concat("sample ", samples_, " has the label ", label,
                                                     " where there are ", manifest_.classes, " classes")};
  const std::int64_t tail =
      manifest_.chunk_samples * std::int64_t{sizeof(std::uint32_t) + sizeof(std::int32_t)};
  if (jpeg && (sample.empty() ||
               static_cast<std::int64_t>(values_.size() + sample.size()) > chunk_limit_bytes - tail))
    return Error{ErrorCode::invalid_argument,
                 concat("sample ", samples_, " has ", sample.size(), " bytes, and a chunk takes 1 to ",
                        chunk_limit_bytes - tail, " in all: use smaller chunks")};
  values_.insert(values_.end(), sample.begin(), sample.end());
  if (jpeg) lengths_.push_back(static_cast<std::uint32_t>(sample.size()));
  labels_.push_back(label);
  ++samples_;
  if (++in_chunk_ == manifest_.chunk_samples) finish_chunk();
  return {};
}

Status ShardBuilder::add_tokens(std::span<const std::byte> tokens) {
  PACELINE_ASSERT(manifest_.kind == SampleKind::tokens, "images are added with add()");
  PACELINE_ASSERT(static_cast<std::int64_t>(tokens.size()) % sample_bytes_ == 0, "tokens are added whole");
  while (!tokens.empty()) {
    if (follower_missing_) {
      std::uint32_t first = 0;
      std::memcpy(&first, tokens.data(), static_cast<std::size_t>(sample_bytes_));
      follow_with(first);
    }
    const std::int64_t room = (manifest_.chunk_samples - in_chunk_) * sample_bytes_;
    const auto part = tokens.first(std::min(tokens.size(), static_cast<std::size_t>(room)));
    values_.insert(values_.end(), part.begin(), part.end());
    in_chunk_ += static_cast<std::int64_t>(part.size()) / sample_bytes_;
    samples_ += static_cast<std::int64_t>(part.size()) / sample_bytes_;
    if (in_chunk_ == manifest_.chunk_samples) finish_chunk();
    tokens = tokens.subspan(part.size());
  }
  return {};
}

std::int64_t ShardBuilder::stored_bytes() const noexcept {
  return records_bytes_ + static_cast<std::int64_t>(values_.size() + lengths_.size() * sizeof(std::uint32_t) +
                                                    labels_.size() * sizeof(std::int32_t));
}

void ShardBuilder::finish_chunk() {
  if (in_chunk_ == 0) return;
  // HDF5 stores every chunk in full; only that of a shard with a single one is made smaller.
  const std::int64_t per_chunk = std::min(manifest_.chunk_samples, samples_);
  const bool jpeg = manifest_.storage == Storage::jpeg;
  if (!jpeg) values_.resize(static_cast<std::size_t>(per_chunk * sample_bytes_));
  NewRecord record;
  record.coded = jpeg || encode_values(manifest_.storage, values_, record.bytes);
  if (jpeg || !record.coded) record.bytes = std::exchange(values_, {});
  record.values_bytes = static_cast<std::int64_t>(record.bytes.size());
  if (manifest_.kind == SampleKind::image) {
    labels_.resize(static_cast<std::size_t>(per_chunk));
    if (jpeg) lengths_.resize(static_cast<std::size_t>(per_chunk));
    append(record.bytes, lengths_);
    append(record.bytes, labels_);
  }
  values_.clear();
  lengths_.clear();
  labels_.clear();
  in_chunk_ = 0;
  record.bytes.shrink_to_fit();
  records_bytes_ += static_cast<std::int64_t>(record.bytes.size());
  largest_record_bytes_ = std::max(largest_record_bytes_, static_cast<std::int64_t>(record.bytes.size()));
  follower_missing_ = manifest_.kind == SampleKind::tokens;
  records_.push_back(std::move(record));
}

void ShardBuilder::follow_with(std::uint32_t token) {
  const auto bytes = std::as_bytes(std::span(&token, 1)).first(static_cast<std::size_t>(sample_bytes_));
  std::vector<std::byte>& record = records_.back().bytes;
  record.insert(record.end(), bytes.begin(), bytes.end());
  records_bytes_ += sample_bytes_;
  follower_missing_ = false;
}

Result<ShardEntry> ShardBuilder::write(const SpaceReport& report, const std::string& folder,
                                       const std::string& file, std::uint32_t following) {
  PACELINE_ASSERT(samples_ > 0, "a shard has at least one sample");
  finish_chunk();
  if (follower_missing_) follow_with(following);
  ShardEntry entry;
  entry.file = file;
  entry.samples = std::exchange(samples_, 0);
  const std::string path = concat(folder, "/", file);
  const auto chunks = static_cast<std::int64_t>(records_.size());
  const std::int64_t most =
      records_bytes_ + chunks * std::int64_t{sizeof(IndexRow)} + 2 * structure_bytes(chunks);
  std::vector<NewRecord> records = std::exchange(records_, {});
  records_bytes_ = 0;
  PACELINE_ASSIGN(const UniqueFd fd, create_shard_file(report, path, most));
  PACELINE_ASSIGN(const ShardImage image, make_shard_image(manifest_, entry.samples, records));
  PACELINE_TRY(write_shard(report, path, fd, image, entry));
  return entry;
}

}  // namespace paceline

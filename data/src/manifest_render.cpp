#include <algorithm>
#include <nlohmann/json.hpp>

#include "manifest.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/checksum.hpp"

namespace paceline {
namespace {

using Json = nlohmann::ordered_json;

void add_images(const Manifest& manifest, Json& document) {
  document["sample_shape"] = manifest.sample_shape;
  document["layout"] = to_string(manifest.layout);
  document["classes"] = manifest.classes;
  if (!manifest.class_names.empty()) document["class_names"] = manifest.class_names;
  document["mean"] = manifest.mean;
  document["standard_deviation"] = manifest.standard_deviation;
  if (manifest.storage == Storage::jpeg) document["largest_record_bytes"] = manifest.largest_record_bytes;
}

void add_tokens(const Manifest& manifest, Json& document) {
  document["vocabulary"] = manifest.vocabulary;
  document["tokenizer"] = manifest.tokenizer;
}

Json render_shard(const Manifest& manifest, const ShardEntry& shard) {
  Json object = {{"file", shard.file},
                 {"samples", shard.samples},
                 {"chunks", chunks_in(manifest, shard)},
                 {"bytes", shard.bytes},
                 {"index_offset", shard.index_offset},
                 {"metadata_checksum", checksum_text(shard.metadata_checksum)}};
  if (!shard.values) return object;
  object["labels_offset"] = shard.labels_offset;
  object["values"] = {{"file", shard.values->file},
                      {"bytes", shard.values->bytes},
                      {"dataset", shard.values->dataset},
                      {"chunk_samples", shard.values->chunk_samples},
                      {"padded", shard.values->padded}};
  return object;
}

}  // namespace

std::int64_t bytes_of(ElementType type) noexcept {
  return type == ElementType::u8 ? 1 : type == ElementType::u16 ? 2 : 4;
}

std::string_view to_string(ElementType type) noexcept {
  return type == ElementType::u8 ? "u8" : type == ElementType::u16 ? "u16" : "i32";
}

std::string_view to_string(ImageLayout layout) noexcept {
  return layout == ImageLayout::chw ? "chw" : "hwc";
}

std::int64_t sample_bytes(const Manifest& manifest) noexcept {
  std::int64_t bytes = bytes_of(manifest.type);
  for (const std::int64_t size : manifest.sample_shape) bytes *= size;
  return bytes;
}

std::int64_t channels(const std::vector<std::int64_t>& sample_shape, ImageLayout layout) noexcept {
  if (sample_shape.size() != 3) return 1;
  return layout == ImageLayout::chw ? sample_shape.front() : sample_shape.back();
}

std::int64_t samples_per_chunk(const Manifest& manifest, const ShardEntry& shard) noexcept {
  return shard.values ? shard.values->chunk_samples : std::min(manifest.chunk_samples, shard.samples);
}

std::int64_t chunks_in(const Manifest& manifest, const ShardEntry& shard) noexcept {
  const std::int64_t per_chunk = samples_per_chunk(manifest, shard);
  return (shard.samples + per_chunk - 1) / per_chunk;
}

std::string render_manifest(const Manifest& manifest) {
  Json document;
  const bool images = manifest.kind == SampleKind::image;
  document["format"] = {{"name", "paceline-dataset"}, {"version", 2}};
  document["name"] = manifest.name;
  document["task"] = images ? "image-classification" : "language-modelling";
  document["dtype"] = to_string(manifest.type);
  document["storage"] = to_string(manifest.storage);
  document["samples"] = manifest.samples;
  document["chunk_samples"] = manifest.chunk_samples;
  if (images)
    add_images(manifest, document);
  else
    add_tokens(manifest, document);
  document["shards"] = Json::array();
  for (const ShardEntry& shard : manifest.shards) document["shards"].push_back(render_shard(manifest, shard));
  document["manifest_checksum"] = checksum_text(0);
  std::string text = document.dump(2) + "\n";
  const std::string checksum = checksum_text(checksum_of(std::as_bytes(std::span(text))));
  text.replace(text.rfind(checksum_text(0)), checksum.size(), checksum);
  return text;
}

}  // namespace paceline

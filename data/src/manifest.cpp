#include "manifest.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>

#include "checksum.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

using Json = nlohmann::json;

constexpr std::string_view format_name = "paceline-dataset";
constexpr std::int64_t format_version = 1;
constexpr std::string_view checksum_key = "manifest_checksum";
constexpr std::int64_t shard_limit_bytes = std::int64_t{1} << 44;
constexpr std::string_view remedy = "; restore the file or import the dataset again";

Error bad_manifest(const std::string& where, std::string_view what) {
  return {ErrorCode::corrupt, concat(where, ": ", what, remedy)};
}

/// Typed, bounded access to the members of one JSON object.
class Members {
 public:
  Members(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  [[nodiscard]] Result<const Json*> get(const char* key) const {
    if (!object_.is_object()) return bad_manifest(where_, "it is not a JSON object");
    const auto found = object_.find(key);
    if (found == object_.end()) return bad_manifest(where_, concat("`", key, "` is missing"));
    return &*found;
  }

  [[nodiscard]] Result<std::int64_t> integer(const char* key, std::int64_t least,
                                             std::int64_t greatest) const {
    PACELINE_ASSIGN(const Json* value, get(key));
    const bool fits = value->is_number_unsigned()
                          ? value->get<std::uint64_t>() <= static_cast<std::uint64_t>(greatest)
                          : value->is_number_integer();
    if (!fits || value->get<std::int64_t>() < least || value->get<std::int64_t>() > greatest)
      return bad_manifest(where_, concat("`", key, "` is not a whole number from ", least, " to ", greatest));
    return value->get<std::int64_t>();
  }

  [[nodiscard]] Result<double> number(const char* key, double least, double greatest) const {
    PACELINE_ASSIGN(const Json* value, get(key));
    const double number = value->is_number() ? value->get<double>() : std::nan("");
    if (!(number >= least && number <= greatest))
      return bad_manifest(where_, concat("`", key, "` is not a number from ", least, " to ", greatest));
    return number;
  }

  [[nodiscard]] Result<std::string> text(const char* key) const {
    PACELINE_ASSIGN(const Json* value, get(key));
    const std::string* text = value->get_ptr<const std::string*>();
    if (text == nullptr || text->empty() || text->size() > 255)
      return bad_manifest(where_, concat("`", key, "` is not a text of 1 to 255 bytes"));
    return *text;
  }

  [[nodiscard]] Status exactly(const char* key, std::string_view only) const {
    PACELINE_ASSIGN(const std::string value, text(key));
    if (value == only) return {};
    return Error{ErrorCode::unsupported,  // dump() escapes what would disturb a terminal
                 concat(where_, ": `", key, "` is ", Json(value).dump(), ", and this Paceline reads only \"",
                        only, "\"")};
  }

  [[nodiscard]] Result<std::uint64_t> checksum(const char* key) const {
    PACELINE_ASSIGN(const std::string value, text(key));
    const std::optional<std::uint64_t> parsed = parse_checksum(value);
    if (!parsed) return bad_manifest(where_, concat("`", key, "` is not 0x and 16 hexadecimal digits"));
    return *parsed;
  }

 private:
  const Json& object_;  // does not own: the parsed document outlives this
  std::string where_;
};

Status check_format(const Json& document, const std::string& path) {
  PACELINE_ASSIGN(const Json* format, Members(document, path).get("format"));
  const Members members(*format, concat(path, ": `format`"));
  PACELINE_TRY(members.exactly("name", format_name));
  PACELINE_ASSIGN(const std::int64_t version, members.integer("version", 1, 1'000'000));
  if (version == format_version) return {};
  return Error{ErrorCode::unsupported,
               concat(path, " has format version ", version, " and this Paceline reads ", format_version,
                      ": use the Paceline that wrote it")};
}

/// The checksum covers the whole file, with its own digits read as zeros.
Status check_own_checksum(const Json& document, std::string& text, const std::string& path) {
  PACELINE_ASSIGN(const std::uint64_t stated, Members(document, path).checksum(checksum_key.data()));
  const std::string quoted = concat('"', checksum_key, '"');
  const std::size_t key = text.find(quoted);
  const std::size_t value =
      key == std::string::npos ? key : text.find(checksum_text(stated), key + quoted.size());
  if (value == std::string::npos || text.find(quoted, key + 1) != std::string::npos)
    return bad_manifest(path, concat("`", checksum_key, "` does not stand there exactly once"));
  std::fill_n(text.begin() + static_cast<std::ptrdiff_t>(value) + 2, 16, '0');
  const std::uint64_t actual = checksum_of(std::as_bytes(std::span(text)));
  if (actual == stated) return {};
  return bad_manifest(path, concat("its checksum is ", checksum_text(actual), ", and it says ",
                                   checksum_text(stated), ": it was changed or damaged"));
}

Status read_shape(const Json& document, const std::string& path, Manifest& manifest) {
  PACELINE_ASSIGN(const Json* shape, Members(document, path).get("sample_shape"));
  if (!shape->is_array() || shape->empty() || shape->size() > 8)
    return bad_manifest(path, "`sample_shape` is not a list of 1 to 8 sizes");
  manifest.sample_bytes = 1;
  for (const Json& size : *shape) {
    if (!size.is_number_unsigned() || size.get<std::uint64_t>() < 1 ||
        size.get<std::uint64_t>() > static_cast<std::uint64_t>(chunk_limit_bytes))
      return bad_manifest(path, "`sample_shape` has a size that is not a whole number from 1 to 2^30");
    manifest.sample_shape.push_back(size.get<std::int64_t>());
    manifest.sample_bytes *= manifest.sample_shape.back();  // both factors <= 2^30
    if (manifest.sample_bytes > chunk_limit_bytes)
      return bad_manifest(path, concat("`sample_shape` makes samples of more than ",
                                       human_bytes(static_cast<std::uint64_t>(chunk_limit_bytes))));
  }
  return {};
}

Status read_description(const Json& document, const std::string& path, Manifest& manifest) {
  const Members members(document, path);
  PACELINE_TRY(members.exactly("dtype", "u8"));
  PACELINE_TRY(members.exactly("storage", "raw"));
  PACELINE_ASSIGN(manifest.name, members.text("name"));
  PACELINE_ASSIGN(manifest.task, members.text("task"));
  PACELINE_TRY(read_shape(document, path, manifest));
  PACELINE_ASSIGN(manifest.classes, members.integer("classes", 1, sample_count_limit));
  PACELINE_ASSIGN(manifest.samples, members.integer("samples", 1, sample_count_limit));
  PACELINE_ASSIGN(manifest.chunk_samples, members.integer("chunk_samples", 1, shard_samples_limit));
  if (manifest.chunk_samples > chunk_limit_bytes / manifest.sample_bytes)
    return bad_manifest(
        path, concat("`chunk_samples` is ", manifest.chunk_samples, ", which makes chunks larger than ",
                     human_bytes(static_cast<std::uint64_t>(chunk_limit_bytes))));
  PACELINE_ASSIGN(manifest.mean, members.number("mean", 0, 1));
  PACELINE_ASSIGN(manifest.standard_deviation, members.number("standard_deviation", 1e-9, 1));
  return {};
}

/// No folder, no hidden file, nothing that a shell or a path could read otherwise.
bool is_plain_file_name(std::string_view name) {
  static constexpr std::string_view allowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  return name.front() != '.' && name.find_first_not_of(allowed) == std::string_view::npos;
}

Result<ShardEntry> read_shard(const Json& object, const std::string& where, const Manifest& manifest) {
  const Members members(object, where);
  ShardEntry shard;
  PACELINE_ASSIGN(shard.file, members.text("file"));
  if (!is_plain_file_name(shard.file))
    return bad_manifest(where, "`file` is not a plain file name of letters, digits, and . _ -");
  PACELINE_ASSIGN(shard.samples, members.integer("samples", 1, shard_samples_limit));
  const std::int64_t chunks = chunks_in(manifest, shard);
  PACELINE_TRY(members.integer("chunks", chunks, chunks));
  PACELINE_ASSIGN(shard.bytes, members.integer("bytes", 1, shard_limit_bytes));
  PACELINE_ASSIGN(shard.labels_offset, members.integer("labels_offset", 0, shard.bytes));
  PACELINE_ASSIGN(shard.index_offset, members.integer("index_offset", 0, shard.bytes));
  PACELINE_ASSIGN(shard.metadata_checksum, members.checksum("metadata_checksum"));
  return shard;
}

Status read_shards(const Json& document, const std::string& path, Manifest& manifest) {
  PACELINE_ASSIGN(const Json* shards, Members(document, path).get("shards"));
  if (!shards->is_array() || shards->empty())
    return bad_manifest(path, "`shards` is not a list of at least one shard");
  std::unordered_set<std::string> names;
  std::int64_t samples = 0;
  for (const Json& object : *shards) {
    PACELINE_ASSIGN(ShardEntry shard,
                    read_shard(object, concat(path, ": shard ", manifest.shards.size()), manifest));
    if (!names.insert(shard.file).second)
      return bad_manifest(path, concat("two shards have the file ", shard.file));
    samples += shard.samples;
    manifest.shards.push_back(std::move(shard));
  }
  if (samples != manifest.samples)
    return bad_manifest(
        path, concat("`samples` is ", manifest.samples, ", but its shards have ", samples, " together"));
  return {};
}

Result<Json> parse_json(const std::string& text, const std::string& path) {
  try {
    return Json::parse(text);
  } catch (const Json::exception& exception) {
    return bad_manifest(path, concat("it is not valid JSON (", exception.what(), ")"));
  }
}

}  // namespace

std::int64_t samples_per_chunk(const Manifest& manifest, const ShardEntry& shard) noexcept {
  return std::min(manifest.chunk_samples, shard.samples);
}

std::int64_t chunks_in(const Manifest& manifest, const ShardEntry& shard) noexcept {
  const std::int64_t per_chunk = samples_per_chunk(manifest, shard);
  return (shard.samples + per_chunk - 1) / per_chunk;
}

Result<Manifest> parse_manifest(std::string text, const std::string& path) {
  PACELINE_ASSIGN(const Json document, parse_json(text, path));
  PACELINE_TRY(check_format(document, path));
  PACELINE_TRY(check_own_checksum(document, text, path));
  Manifest manifest;
  PACELINE_TRY(read_description(document, path, manifest));
  PACELINE_TRY(read_shards(document, path, manifest));
  return manifest;
}

std::string render_manifest(const Manifest& manifest) {
  nlohmann::ordered_json document;
  document["format"] = {{"name", format_name}, {"version", format_version}};
  document["name"] = manifest.name;
  document["task"] = manifest.task;
  document["dtype"] = "u8";
  document["sample_shape"] = manifest.sample_shape;
  document["classes"] = manifest.classes;
  document["samples"] = manifest.samples;
  document["chunk_samples"] = manifest.chunk_samples;
  document["storage"] = "raw";
  document["mean"] = manifest.mean;
  document["standard_deviation"] = manifest.standard_deviation;
  document["shards"] = nlohmann::ordered_json::array();
  for (const ShardEntry& shard : manifest.shards)
    document["shards"].push_back({{"file", shard.file},
                                  {"samples", shard.samples},
                                  {"chunks", chunks_in(manifest, shard)},
                                  {"bytes", shard.bytes},
                                  {"labels_offset", shard.labels_offset},
                                  {"index_offset", shard.index_offset},
                                  {"metadata_checksum", checksum_text(shard.metadata_checksum)}});
  document[std::string(checksum_key)] = checksum_text(0);
  std::string text = document.dump(2) + "\n";
  const std::string checksum = checksum_text(checksum_of(std::as_bytes(std::span(text))));
  text.replace(text.rfind(checksum_text(0)), checksum.size(), checksum);
  return text;
}

}  // namespace paceline

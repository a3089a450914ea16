#include "manifest.hpp"

#include <algorithm>
#include <optional>
#include <unordered_set>

#include "json_members.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/checksum.hpp"

namespace paceline {
namespace {

using Json = nlohmann::json;

constexpr std::string_view format_name = "paceline-dataset";
constexpr std::int64_t format_version = 2;
constexpr std::string_view checksum_key = "manifest_checksum";
constexpr std::int64_t file_limit_bytes = std::int64_t{1} << 44;
constexpr std::int64_t index_row_bytes = 32;

const std::vector<std::string_view> tasks = {"image-classification", "language-modelling"};
const std::vector<std::string_view> types = {"u8", "u16", "i32"};
const std::vector<std::string_view> storages = {"raw", "zstd", "lz4", "jpeg", "deflate"};
const std::vector<std::string_view> layouts = {"chw", "hwc"};

Status check_format(const Json& document, const std::string& path) {
  PACELINE_ASSIGN(const Json* format, Members(document, path).get("format"));
  const Members members(*format, concat(path, ": `format`"));
  PACELINE_TRY(members.one_of("name", {format_name}));
  PACELINE_ASSIGN(const std::int64_t version, members.integer("version", 1, 1'000'000));
  if (version == format_version) return {};
  if (version < format_version)
    return Error{ErrorCode::unsupported,
                 concat(path, " has format version ", version, " and this Paceline reads ", format_version,
                        ": the dataset was made by an older version; remove it and import it again")};
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

/// No folder, no hidden file, nothing that a shell or a path could read otherwise.
bool is_plain_file_name(std::string_view name) {
  static constexpr std::string_view allowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  return !name.empty() && name.front() != '.' && name.find_first_not_of(allowed) == std::string_view::npos;
}

Status read_shape(const Json& document, const std::string& path, Manifest& manifest) {
  PACELINE_ASSIGN(const Json* shape, Members(document, path).get("sample_shape"));
  if (!shape->is_array() || shape->empty() || shape->size() > 8)
    return bad_manifest(path, "`sample_shape` is not a list of 1 to 8 sizes");
  std::int64_t bytes = 1;
  for (const Json& size : *shape) {
    if (!size.is_number_unsigned() || size.get<std::uint64_t>() < 1 ||
        size.get<std::uint64_t>() > static_cast<std::uint64_t>(chunk_limit_bytes))
      return bad_manifest(path, "`sample_shape` has a size that is not a whole number from 1 to 2^30");
    manifest.sample_shape.push_back(size.get<std::int64_t>());
    bytes *= manifest.sample_shape.back();  // both factors <= 2^30
    if (bytes > chunk_limit_bytes)
      return bad_manifest(path, concat("`sample_shape` makes samples of more than ",
                                       human_bytes(static_cast<std::uint64_t>(chunk_limit_bytes))));
  }
  return {};
}

Status read_images(const Json& document, const std::string& path, Manifest& manifest) {
  const Members members(document, path);
  if (manifest.type != ElementType::u8)
    return bad_manifest(path, concat("`dtype` is ", to_string(manifest.type), ", and images have u8"));
  PACELINE_TRY(read_shape(document, path, manifest));
  PACELINE_ASSIGN(const std::size_t layout, members.one_of("layout", layouts));
  manifest.layout = static_cast<ImageLayout>(layout);
  PACELINE_ASSIGN(manifest.classes, members.integer("classes", 1, sample_count_limit));
  if (members.has("class_names")) {
    PACELINE_ASSIGN(manifest.class_names,
                    members.texts("class_names", static_cast<std::size_t>(manifest.classes)));
  }
  const auto count = static_cast<std::size_t>(channels(manifest.sample_shape, manifest.layout));
  PACELINE_ASSIGN(manifest.mean, members.numbers("mean", count, 0, 1));
  PACELINE_ASSIGN(manifest.standard_deviation, members.numbers("standard_deviation", count, 1e-9, 1));
  if (manifest.storage == Storage::jpeg) {
    PACELINE_ASSIGN(manifest.largest_record_bytes,
                    members.integer("largest_record_bytes", 1, chunk_limit_bytes));
  }
  PACELINE_ASSIGN(manifest.samples, members.integer("samples", 1, sample_count_limit));
  return {};
}

/// "bytes", a file in the dataset's folder, or one beside it.
bool is_tokenizer(std::string_view name) {
  if (name.starts_with("../")) name.remove_prefix(3);
  return is_plain_file_name(name);
}

Status read_tokens(const Json& document, const std::string& path, Manifest& manifest) {
  const Members members(document, path);
  if (manifest.storage == Storage::jpeg || manifest.storage == Storage::deflate)
    return bad_manifest(path,
                        concat("`storage` is ", to_string(manifest.storage), ", which tokens cannot have"));
  const std::int64_t most = manifest.type == ElementType::i32
                                ? sample_count_limit
                                : std::int64_t{1} << (8 * bytes_of(manifest.type));
  PACELINE_ASSIGN(manifest.vocabulary, members.integer("vocabulary", 1, most));
  PACELINE_ASSIGN(manifest.tokenizer, members.text("tokenizer"));
  if (!is_tokenizer(manifest.tokenizer))
    return bad_manifest(
        path, "`tokenizer` is neither \"bytes\" nor a plain file name, with or without ../ before it");
  PACELINE_ASSIGN(manifest.samples, members.integer("samples", 1, token_count_limit));
  return {};
}

Status read_description(const Json& document, const std::string& path, Manifest& manifest) {
  const Members members(document, path);
  PACELINE_ASSIGN(manifest.name, members.text("name"));
  PACELINE_ASSIGN(const std::size_t task, members.one_of("task", tasks));
  PACELINE_ASSIGN(const std::size_t type, members.one_of("dtype", types));
  PACELINE_ASSIGN(const std::size_t storage, members.one_of("storage", storages));
  manifest.kind = static_cast<SampleKind>(task);
  manifest.type = static_cast<ElementType>(type);
  manifest.storage = static_cast<Storage>(storage);
  if (manifest.kind == SampleKind::image)
    PACELINE_TRY(read_images(document, path, manifest));
  else
    PACELINE_TRY(read_tokens(document, path, manifest));
  PACELINE_ASSIGN(manifest.chunk_samples, members.integer("chunk_samples", 1, chunk_samples_limit));
  if (manifest.chunk_samples <= chunk_limit_bytes / sample_bytes(manifest)) return {};
  return bad_manifest(
      path, concat("`chunk_samples` is ", manifest.chunk_samples, ", which makes chunks larger than ",
                   human_bytes(static_cast<std::uint64_t>(chunk_limit_bytes))));
}

/// An absolute path, or one that cannot leave the dataset's folder.
bool is_foreign_path(std::string_view path) {
  if (path.find('\0') != std::string_view::npos) return false;
  if (path.starts_with('/')) return true;
  const std::vector<std::string> parts = split(path, '/');
  return std::none_of(parts.begin(), parts.end(), [](const std::string& part) { return part == ".."; });
}

Result<ForeignValues> read_foreign(const Json& object, const std::string& where, const Manifest& manifest) {
  const Members members(object, where);
  ForeignValues values;
  if (manifest.kind != SampleKind::image || manifest.storage == Storage::jpeg)
    return bad_manifest(where, "only images as they are can lie in another file");
  constexpr std::size_t path_limit_bytes = 4095;
  PACELINE_ASSIGN(values.file, members.text("file", path_limit_bytes));
  if (!is_foreign_path(values.file))
    return bad_manifest(where, "`file` is neither an absolute path nor one within the dataset's folder");
  PACELINE_ASSIGN(values.dataset, members.text("dataset", path_limit_bytes));
  PACELINE_ASSIGN(values.bytes, members.integer("bytes", 1, file_limit_bytes));
  PACELINE_ASSIGN(values.chunk_samples, members.integer("chunk_samples", 1, manifest.chunk_samples));
  PACELINE_ASSIGN(values.padded, members.truth("padded"));
  return values;
}

Result<ShardEntry> read_shard(const Json& object, const std::string& where, const Manifest& manifest) {
  const Members members(object, where);
  ShardEntry shard;
  PACELINE_ASSIGN(shard.file, members.text("file"));
  if (!is_plain_file_name(shard.file))
    return bad_manifest(where, "`file` is not a plain file name of letters, digits, and . _ -");
  PACELINE_ASSIGN(shard.samples, members.integer("samples", 1, manifest.samples));
  PACELINE_ASSIGN(shard.bytes, members.integer("bytes", 1, file_limit_bytes));
  if (members.has("values")) {
    PACELINE_ASSIGN(const Json* values, members.get("values"));
    PACELINE_ASSIGN(shard.values, read_foreign(*values, concat(where, ": `values`"), manifest));
    PACELINE_ASSIGN(shard.labels_offset, members.integer("labels_offset", 0, shard.bytes));
  } else if (manifest.storage == Storage::deflate) {
    return bad_manifest(where, "`values` is missing: only files of others are stored as deflate");
  }
  const std::int64_t chunks = chunks_in(manifest, shard);
  PACELINE_TRY(members.integer("chunks", chunks, chunks));
  if (chunks > shard.bytes / index_row_bytes)
    return bad_manifest(where, concat("`bytes` is ", shard.bytes, ", which is too small for the index of ",
                                      chunks, " chunks"));
  PACELINE_ASSIGN(shard.index_offset,
                  members.integer("index_offset", 0, shard.bytes - chunks * index_row_bytes));
  PACELINE_ASSIGN(shard.metadata_checksum, members.checksum("metadata_checksum"));
  return shard;
}

Status read_shards(const Json& document, const std::string& path, Manifest& manifest) {
  PACELINE_ASSIGN(const Json* shards, Members(document, path).get("shards"));
  if (!shards->is_array() || shards->empty())
    return bad_manifest(path, "`shards` is not a list of at least one shard");
  std::unordered_set<std::string> names;
  std::int64_t samples = 0;
  std::int64_t chunks = 0;
  for (const Json& object : *shards) {
    PACELINE_ASSIGN(ShardEntry shard,
                    read_shard(object, concat(path, ": shard ", manifest.shards.size()), manifest));
    if (!names.insert(shard.file).second)
      return bad_manifest(path, concat("two shards have the file ", shard.file));
    samples += shard.samples;  // a manifest of 16 MiB has too few shards for an overflow
    chunks += chunks_in(manifest, shard);
    manifest.shards.push_back(std::move(shard));
  }
  if (samples != manifest.samples)
    return bad_manifest(
        path, concat("`samples` is ", manifest.samples, ", but its shards have ", samples, " together"));
  if (chunks > sample_count_limit)
    return bad_manifest(path, concat("it has ", chunks, " chunks, more than ", sample_count_limit));
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

Result<Manifest> parse_manifest(std::string text, const std::string& path) {
  PACELINE_ASSIGN(const Json document, parse_json(text, path));
  PACELINE_TRY(check_format(document, path));
  PACELINE_TRY(check_own_checksum(document, text, path));
  Manifest manifest;
  PACELINE_TRY(read_description(document, path, manifest));
  PACELINE_TRY(read_shards(document, path, manifest));
  return manifest;
}

}  // namespace paceline

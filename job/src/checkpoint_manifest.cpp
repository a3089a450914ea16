#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "checkpoint_files.hpp"
#include "paceline/base/text.hpp"
#include "paceline/job/journal.hpp"

// manifest.json ends with a checksum of all that stands before it, which is compared before anything else is
// believed. What is read then still has every rule checked: whoever can write a file can write a checksum.

namespace paceline {
namespace {

using Json = nlohmann::json;

constexpr std::string_view format_name = "paceline-checkpoint";
constexpr int most_levels = 8;
constexpr std::string_view seal_begin = ",\n  \"checksum\": \"0x";
constexpr std::string_view seal_end = "\"\n}\n";
constexpr std::size_t word_digits = 16;
constexpr std::size_t seal_bytes = seal_begin.size() + word_digits + seal_end.size();

Error damaged(const std::string& where, std::string_view what) {
  return {ErrorCode::corrupt, concat(where, ": ", what, ": it was changed or damaged")};
}

std::string quoted(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string render_value(const CheckpointValue& value) {
  if (const auto* number = std::get_if<double>(&value)) return Json(*number).dump();
  if (const auto* number = std::get_if<std::int64_t>(&value)) return concat(*number);
  return quoted(std::get<std::string>(value));
}

std::string render_part(const CheckpointPart& part) {
  std::string text =
      concat("{\"rank\": ", part.rank, ", \"ranks\": ", part.ranks, ", \"offset\": ", part.slice.offset,
             ", \"bytes\": ", part.slice.bytes, ", \"checksums\": [");
  for (const std::uint64_t checksum : part.checksums) {
    if (text.back() != '[') text += ", ";
    text += '"' + hex_word(checksum) + '"';
  }
  return text + "]}";
}

/// Items between brackets, each on its line.
template <class Items, class Render>
std::string render_list(const Items& items, char open, char close, Render render) {
  std::string text(1, open);
  const char* before = "\n    ";
  for (const auto& item : items) {
    text += before + render(item);
    before = ",\n    ";
  }
  return text + (items.empty() ? "" : "\n  ") + close;
}

/// 0x and 16 lower-case digits.
std::optional<std::uint64_t> parse_word(std::string_view text) {
  if (text.size() != 2 + word_digits || !text.starts_with("0x")) return std::nullopt;
  if (text.find_first_not_of("0123456789abcdef", 2) != std::string_view::npos) return std::nullopt;
  std::uint64_t word = 0;
  std::from_chars(text.data() + 2, text.data() + text.size(), word, 16);
  return word;
}

Status check_seal(std::string_view text, const std::string& name) {
  const std::string_view seal = text.substr(text.size() - std::min(text.size(), seal_bytes));
  std::optional<std::uint64_t> stated;
  if (seal.size() == seal_bytes && seal.starts_with(seal_begin) && seal.ends_with(seal_end))
    stated = parse_word(seal.substr(seal_begin.size() - 2, 2 + word_digits));
  if (!stated) return damaged(name, "it does not end with its checksum");
  const std::uint64_t actual =
      block_checksum(std::as_bytes(std::span(text.substr(0, text.size() - seal_bytes))));
  if (actual == *stated) return {};
  return damaged(name, concat("its checksum is ", hex_word(actual), ", and it says ", hex_word(*stated)));
}

Result<Json> parse_document(std::string_view text, const std::string& name) {
  // The depth is bounded: the parser is recursive in its destructors.
  const auto shallow = [](int depth, Json::parse_event_t, Json&) {
    if (depth > most_levels) throw std::length_error("nested too deep");
    return true;
  };
  try {
    return Json::parse(text, shallow);
  } catch (const std::exception&) {  // the parser's words quote the bytes, whatever they are
    return damaged(name, "it is not JSON");
  }
}

/// Typed access to the members of one object; errors name the object's place and the member.
class Object {
 public:
  Object(const Json& json, std::string where) : json_(json), where_(std::move(where)) {}

  Result<const Json*> get(const char* key) const {
    if (!json_.is_object()) return damaged(where_, "it is no JSON object");
    const auto found = json_.find(key);
    if (found == json_.end()) return damaged(where_, concat("it has no \"", key, '"'));
    return &*found;
  }
  Result<std::int64_t> integer(const char* key) const {
    PACELINE_ASSIGN(const Json* value, get(key));
    if (value->is_number_unsigned() && value->get<std::uint64_t>() <= std::uint64_t{most_checkpoint_number})
      return value->get<std::int64_t>();
    return damaged(where_, concat("its \"", key, "\" is not a whole number from 0 to 2^53"));
  }
  Result<std::string> text(const char* key) const {
    PACELINE_ASSIGN(const Json* value, get(key));
    if (value->is_string()) return value->get<std::string>();
    return damaged(where_, concat("its \"", key, "\" is no string"));
  }
  Result<const Json*> array(const char* key) const {
    PACELINE_ASSIGN(const Json* value, get(key));
    if (value->is_array()) return value;
    return damaged(where_, concat("its \"", key, "\" is no list"));
  }
  [[nodiscard]] const std::string& where() const { return where_; }

 private:
  const Json& json_;
  std::string where_;
};

Status check_format(const Object& document) {
  PACELINE_ASSIGN(const std::string format, document.text("format"));
  if (format != format_name) return damaged(document.where(), "it is no checkpoint's manifest");
  PACELINE_ASSIGN(const std::int64_t version, document.integer("version"));
  if (version == checkpoint_version) return {};
  return Error{ErrorCode::unsupported, concat(document.where(), " is of a checkpoint of version ", version,
                                              ", and this Paceline reads version ", checkpoint_version,
                                              ": use the Paceline that wrote it")};
}

Result<CheckpointValues> read_scalars(const Object& document) {
  PACELINE_ASSIGN(const Json* object, document.get("scalars"));
  if (!object->is_object()) return damaged(document.where(), "its \"scalars\" is no JSON object");
  CheckpointValues values;
  for (const auto& [name, value] : object->items()) {
    if (value.is_number_float())
      values.emplace(name, value.get<double>());
    else if (value.is_string())
      values.emplace(name, value.get<std::string>());
    else if (value.is_number_unsigned() ? std::in_range<std::int64_t>(value.get<std::uint64_t>())
                                        : value.is_number_integer())
      values.emplace(name, value.get<std::int64_t>());
    else
      return damaged(document.where(),
                     concat("its scalar ", shown(name), " is neither a number nor a string"));
  }
  return values;
}

Result<std::vector<CheckpointEntry>> read_layout(const Object& document) {
  PACELINE_ASSIGN(const Json* list, document.array("layout"));
  std::vector<CheckpointEntry> layout;
  for (const Json& json : *list) {
    const Object object(json, concat(document.where(), ": entry ", layout.size()));
    CheckpointEntry entry;
    PACELINE_ASSIGN(entry.name, object.text("name"));
    PACELINE_ASSIGN(entry.bytes, object.integer("bytes"));
    layout.push_back(std::move(entry));
  }
  return layout;
}

Result<std::vector<CheckpointPart>> read_parts(const Object& document) {
  PACELINE_ASSIGN(const Json* list, document.array("parts"));
  std::vector<CheckpointPart> parts;
  for (const Json& json : *list) {
    const Object object(json, concat(document.where(), ": part ", parts.size()));
    CheckpointPart part;
    PACELINE_ASSIGN(part.rank, object.integer("rank"));
    PACELINE_ASSIGN(part.ranks, object.integer("ranks"));
    PACELINE_ASSIGN(part.slice.offset, object.integer("offset"));
    PACELINE_ASSIGN(part.slice.bytes, object.integer("bytes"));
    PACELINE_ASSIGN(const Json* checksums, object.array("checksums"));
    for (const Json& text : *checksums) {
      const auto word = text.is_string() ? parse_word(text.get_ref<const std::string&>()) : std::nullopt;
      if (!word)
        return damaged(object.where(), concat("its checksum ", part.checksums.size(),
                                              " is not 0x and 16 hexadecimal digits"));
      part.checksums.push_back(*word);
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace

std::string seal_manifest(std::string_view json) {
  PACELINE_ASSERT(json.ends_with("\n}"), "a manifest is an object with a member on its last line");
  std::string text(json.substr(0, json.size() - 2));
  const std::string word = hex_word(block_checksum(std::as_bytes(std::span(text))));
  return text.append(seal_begin).append(word, 2).append(seal_end);
}

Result<std::string> render_checkpoint_manifest(const CheckpointManifest& manifest) {
  if (const std::string complaint = complaint_about(manifest); !complaint.empty())
    return Error{ErrorCode::invalid_argument,
                 concat("the checkpoint of step ", manifest.id.step, " cannot be published: ", complaint)};
  const std::string scalars = render_list(manifest.scalars, '{', '}', [](const auto& scalar) {
    return concat(quoted(scalar.first), ": ", render_value(scalar.second));
  });
  const std::string layout = render_list(manifest.layout, '[', ']', [](const CheckpointEntry& entry) {
    return concat("{\"name\": ", quoted(entry.name), ", \"bytes\": ", entry.bytes, "}");
  });
  std::string text =
      seal_manifest(concat("{\n  \"format\": \"", format_name, "\",\n  \"version\": ", checkpoint_version,
                           ",\n  \"step\": ", manifest.id.step, ",\n  \"term\": ", manifest.id.term,
                           ",\n  \"generation\": ", manifest.id.generation,
                           ",\n  \"job_fingerprint\": ", quoted(manifest.job_fingerprint),
                           ",\n  \"scalars\": ", scalars, ",\n  \"layout\": ", layout,
                           ",\n  \"parts\": ", render_list(manifest.parts, '[', ']', render_part), "\n}"));
  if (text.size() > most_manifest_bytes)
    return Error{ErrorCode::invalid_argument, concat("the checkpoint of step ", manifest.id.step,
                                                     " cannot be published: its manifest is larger than ",
                                                     human_bytes(most_manifest_bytes))};
  return text;
}

Result<CheckpointManifest> parse_checkpoint_manifest(std::string_view text, const std::string& name) {
  PACELINE_TRY(check_seal(text, name));
  PACELINE_ASSIGN(const Json json, parse_document(text, name));
  const Object document(json, name);
  PACELINE_TRY(check_format(document));
  CheckpointManifest manifest;
  PACELINE_ASSIGN(manifest.id.step, document.integer("step"));
  PACELINE_ASSIGN(manifest.id.term, document.integer("term"));
  PACELINE_ASSIGN(manifest.id.generation, document.integer("generation"));
  PACELINE_ASSIGN(manifest.job_fingerprint, document.text("job_fingerprint"));
  PACELINE_ASSIGN(manifest.scalars, read_scalars(document));
  PACELINE_ASSIGN(manifest.layout, read_layout(document));
  PACELINE_ASSIGN(manifest.parts, read_parts(document));
  if (const std::string complaint = complaint_about(manifest); !complaint.empty())
    return damaged(name, complaint);
  return manifest;
}

}  // namespace paceline

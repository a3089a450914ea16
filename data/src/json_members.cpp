#include "json_members.hpp"

#include <algorithm>
#include <cmath>
#include <optional>

#include "paceline/base/text.hpp"
#include "paceline/data/checksum.hpp"

namespace paceline {
namespace {

using Json = nlohmann::json;

constexpr std::size_t text_limit_bytes = 255;

bool is_text(const Json& value, std::size_t most_bytes) {
  const std::string* text = value.get_ptr<const std::string*>();
  return text != nullptr && !text->empty() && text->size() <= most_bytes;
}

}  // namespace

Error bad_manifest(const std::string& where, std::string_view what) {
  return {ErrorCode::corrupt, concat(where, ": ", what, "; restore the file or import the dataset again")};
}

bool Members::has(const char* key) const {
  return object_.is_object() && object_.contains(key);
}

Result<const Json*> Members::get(const char* key) const {
  if (!object_.is_object()) return bad_manifest(where_, "it is not a JSON object");
  const auto found = object_.find(key);
  if (found == object_.end()) return bad_manifest(where_, concat("`", key, "` is missing"));
  return &*found;
}

Result<std::int64_t> Members::integer(const char* key, std::int64_t least, std::int64_t greatest) const {
  PACELINE_ASSIGN(const Json* value, get(key));
  const bool fits = value->is_number_unsigned()
                        ? value->get<std::uint64_t>() <= static_cast<std::uint64_t>(greatest)
                        : value->is_number_integer();
  if (!fits || value->get<std::int64_t>() < least || value->get<std::int64_t>() > greatest)
    return bad_manifest(where_, concat("`", key, "` is not a whole number from ", least, " to ", greatest));
  return value->get<std::int64_t>();
}

Result<bool> Members::truth(const char* key) const {
  PACELINE_ASSIGN(const Json* value, get(key));
  if (!value->is_boolean()) return bad_manifest(where_, concat("`", key, "` is neither true nor false"));
  return value->get<bool>();
}

Result<std::string> Members::text(const char* key, std::size_t most_bytes) const {
  PACELINE_ASSIGN(const Json* value, get(key));
  if (!is_text(*value, most_bytes))
    return bad_manifest(where_, concat("`", key, "` is not a text of 1 to ", most_bytes, " bytes"));
  return value->get<std::string>();
}

Result<std::size_t> Members::one_of(const char* key, const std::vector<std::string_view>& known) const {
  PACELINE_ASSIGN(const std::string value, text(key));
  const auto found = std::find(known.begin(), known.end(), value);
  if (found != known.end()) return static_cast<std::size_t>(found - known.begin());
  std::string choices;
  for (const std::string_view each : known)
    choices += concat(choices.empty() ? "" : (each == known.back() ? " and " : ", "), '"', each, '"');
  return Error{
      ErrorCode::unsupported,  // dump() escapes what would disturb a terminal
      concat(where_, ": `", key, "` is ", Json(value).dump(-1, ' ', true, Json::error_handler_t::replace),
             ", and this Paceline reads only ", choices)};
}

Result<std::uint64_t> Members::checksum(const char* key) const {
  PACELINE_ASSIGN(const std::string value, text(key));
  const std::optional<std::uint64_t> parsed = parse_checksum(value);
  if (!parsed) return bad_manifest(where_, concat("`", key, "` is not 0x and 16 hexadecimal digits"));
  return *parsed;
}

Result<std::vector<double>> Members::numbers(const char* key, std::size_t count, double least,
                                             double greatest) const {
  PACELINE_ASSIGN(const Json* list, get(key));
  std::vector<double> result;
  if (list->is_array() && list->size() == count)
    for (const Json& value : *list) {
      const double number = value.is_number() ? value.get<double>() : std::nan("");
      if (number >= least && number <= greatest) result.push_back(number);
    }
  if (result.size() == count) return result;
  return bad_manifest(where_, concat("`", key, "` is not a list of ", count,
                                     count == 1 ? " number" : " numbers", " from ", least, " to ", greatest));
}

Result<std::vector<std::string>> Members::texts(const char* key, std::size_t count) const {
  PACELINE_ASSIGN(const Json* list, get(key));
  std::vector<std::string> result;
  if (list->is_array() && list->size() == count)
    for (const Json& value : *list)
      if (is_text(value, text_limit_bytes)) result.push_back(value.get<std::string>());
  if (result.size() == count) return result;
  return bad_manifest(
      where_, concat("`", key, "` is not a list of ", count, " texts of 1 to ", text_limit_bytes, " bytes"));
}

}  // namespace paceline

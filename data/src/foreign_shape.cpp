#include "foreign_shape.hpp"

#include <nlohmann/json.hpp>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

bool could_be_channels(std::int64_t size) {
  return size == 1 || size == 3 || size == 4;
}

bool is_utf8(const std::string& text) {
  try {
    return !nlohmann::json(text).dump().empty();
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

}  // namespace

Result<ForeignShape> shape_of_samples(const std::vector<std::int64_t>& shape, const std::string& layout) {
  if (!layout.empty() && layout != "chw" && layout != "hwc")
    return Error{ErrorCode::invalid_argument, concat("the layout \"", layout, "\" is neither chw nor hwc")};
  ForeignShape result;
  result.sizes.assign(shape.begin() + 1, shape.end());
  // Rows and columns without channels are the same in both layouts.
  if (result.sizes.size() == 2) result.sizes.insert(result.sizes.begin(), 1);
  if (shape.size() != 4) return result;
  const bool first = could_be_channels(shape[1]);
  const bool last = could_be_channels(shape[3]);
  if (layout.empty() && first == last)
    return Error{
        ErrorCode::invalid_argument,
        concat(
            "samples of ", shape[1], "x", shape[2], "x", shape[3],
            " can be read in two ways: say with the layout whether channels come first (chw) or last (hwc)")};
  const bool is_hwc = layout.empty() ? last : layout == "hwc";
  result.layout = is_hwc ? ImageLayout::hwc : ImageLayout::chw;
  return result;
}

Status check_text(const Manifest& manifest, const std::vector<std::string>& files) {
  constexpr std::size_t most_bytes = 255;
  std::vector<std::string> texts = manifest.class_names;
  texts.push_back(manifest.name);
  for (const std::string& text : texts)
    if (text.empty() || text.size() > most_bytes || !is_utf8(text))
      return Error{ErrorCode::invalid_argument,
                   concat("\"", text, "\" cannot be a name: use 1 to ", most_bytes, " bytes of UTF-8")};
  for (const std::string& file : files)
    if (!is_utf8(file))
      return Error{ErrorCode::invalid_argument,
                   concat(file, ": its path is not UTF-8, and a manifest must be: rename it")};
  return {};
}

}  // namespace paceline

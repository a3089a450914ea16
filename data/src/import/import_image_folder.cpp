#include <algorithm>

#include "dataset_folder.hpp"
#include "dataset_writer.hpp"
#include "image_files.hpp"
#include "kinds.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/image.hpp"

namespace paceline {
namespace {

// What re-encoded images take of their decoded size, about: shards are cut by it.
constexpr std::int64_t jpeg_ratio = 8;

Status check_pictures(const ImportOptions& options) {
  if (options.channels != 0 && options.channels != 1 && options.channels != 3)
    return Error{ErrorCode::invalid_argument,
                 concat("--channels ", options.channels, ": images have 1 (grey) or 3 (colour)")};
  if (options.size) PACELINE_TRY(parse_image_extent(concat(options.size->rows, "x", options.size->columns)));
  return {};
}

std::int64_t item_bytes(const ImportOptions& options, const ImageTarget& target,
                        const std::vector<ImageFile>& files) {
  const std::int64_t decoded = target.rows * target.columns * target.channels;
  if (target.storage != Storage::jpeg) return decoded;
  if (options.size) return std::max<std::int64_t>(1, decoded / jpeg_ratio);
  std::int64_t bytes = 0;
  for (const ImageFile& file : files) bytes += file.bytes;
  return std::clamp<std::int64_t>(bytes / static_cast<std::int64_t>(files.size()), 1, decoded);
}

}  // namespace

Result<ImageExtent> parse_image_extent(const std::string& text) {
  const std::vector<std::string> sides = split(text, 'x');
  std::optional<std::int64_t> rows;
  std::optional<std::int64_t> columns;
  if (sides.size() == 2) {
    rows = parse_integer(sides[0], 1, image_side_limit);
    columns = parse_integer(sides[1], 1, image_side_limit);
  }
  if (rows && columns && *rows * *columns <= image_pixels_limit) return ImageExtent{*rows, *columns};
  return Error{ErrorCode::invalid_argument,
               concat("--size ", shown(text), ": write ROWSxCOLUMNS, for example 224x224, with up to ",
                      image_side_limit, " in a side and ", image_pixels_limit >> 20, " Mi pixels")};
}

Status import_image_folder(ImportRun& run, const std::string& folder) {
  const ImportOptions& options = run.options();
  PACELINE_TRY(check_pictures(options));
  if (options.sources.size() != 1)
    return Error{ErrorCode::invalid_argument,
                 "importing image-folder needs one folder as SOURCE, with a folder of images for each class"};
  const std::string source = without_trailing_slashes(options.sources[0]);
  PACELINE_ASSIGN(ImageFolder images, find_images(source, options.test_fraction));
  run.set_files(images.files());
  PACELINE_ASSIGN(const ImageTarget target, choose_target(run, images));
  std::vector<ImageSplit> splits;
  std::int64_t bytes = 0;
  for (const ImageFolder::Split& found : images.splits) {
    ImageSplit& split = splits.emplace_back();
    split.name = found.name;
    split.source = image_files_source(run, target, found.files);
    split.item_bytes = item_bytes(options, target, found.files);
    Manifest& manifest = split.manifest;
    manifest.name = dataset_name(source, found.name);
    manifest.storage = target.storage;
    manifest.layout = ImageLayout::hwc;
    manifest.sample_shape = {target.rows, target.columns, target.channels};
    manifest.classes = static_cast<std::int64_t>(images.class_names.size());
    manifest.class_names = images.class_names;
    bytes += split.source->items() * (split.item_bytes + std::int64_t{sizeof(std::int32_t)});
  }
  run.set_needed_bytes(bytes);
  for (ImageSplit& split : splits) PACELINE_TRY(write_images(run, folder, split));
  run.tell_skipped();
  return {};
}

}  // namespace paceline

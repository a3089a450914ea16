#include "paceline/data/preview.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "paceline/base/text.hpp"
#include "paceline/data/dataset.hpp"
#include "paceline/data/image.hpp"
#include "picture.hpp"
#include "tokenizer.hpp"

namespace paceline {
namespace {

constexpr std::int64_t default_images = 64;
constexpr std::int64_t default_texts = 4;
constexpr std::int64_t most_shown = 4096;
constexpr std::int64_t window_tokens = 256;
constexpr std::int64_t gap = 2;
constexpr std::int64_t largest_tile = 160;
constexpr std::int64_t smallest_tile = 48;
constexpr std::byte background{0x40};

/// `count` samples spread over the dataset: chunk by chunk, so that each is read once.
template <class Use>
Status visit_samples(const Dataset& dataset, std::int64_t count, const Use& use) {
  const std::int64_t samples = dataset.info().samples;
  std::int64_t chunk_first = 0;
  std::int64_t shown_ones = 0;
  const auto wanted = [&] { return shown_ones * samples / count; };
  const std::span<const std::int32_t> chunks = dataset.chunk_samples();
  for (std::size_t number = 0; number < chunks.size() && shown_ones < count; ++number) {
    const std::int64_t chunk_end = chunk_first + chunks[number];
    if (wanted() < chunk_end) {
      PACELINE_ASSIGN(const Chunk chunk, dataset.read_chunk(static_cast<std::int64_t>(number)));
      for (; shown_ones < count && wanted() < chunk_end; ++shown_ones)
        PACELINE_TRY(use(chunk, wanted() - chunk_first));
    }
    chunk_first = chunk_end;
  }
  return {};
}

/// How samples are looked at: rows, columns, channels.
struct Shape {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t channels = 0;
};

Result<Shape> shape_of(const DatasetInfo& info) {
  const std::vector<std::int64_t>& s = info.sample_shape;
  Shape shape;
  if (s.size() == 3 && info.layout == "hwc") shape = {s[0], s[1], s[2]};
  if (s.size() == 3 && info.layout != "hwc") shape = {s[1], s[2], s[0]};
  if (s.size() == 2) shape = {s[0], s[1], 1};
  if (shape.channels == 1 || shape.channels >= 3) return shape;
  return Error{ErrorCode::unsupported,
               concat(shown(info.path),
                      ": its samples are not pictures of 1, 3 or 4 channels, so there is nothing "
                      "to show")};
}

/// A sample as a picture of 1 or 3 channels; of more channels the first three.
Result<Picture> picture_of(const DatasetInfo& info, const Shape& shape, std::span<const std::byte> sample) {
  Picture picture{shape.rows, shape.columns, shape.channels == 1 ? 1 : 3, {}};
  const std::int64_t pixels = shape.rows * shape.columns;
  picture.values.resize(static_cast<std::size_t>(pixels * picture.channels));
  if (info.storage == "jpeg") {
    PACELINE_TRY(decode_jpeg(sample, shape.rows, shape.columns, picture.channels, picture.values.data()));
    return picture;
  }
  const std::int64_t pixel_stride = info.layout == "hwc" ? shape.channels : 1;
  const std::int64_t channel_stride = info.layout == "hwc" ? 1 : pixels;
  std::byte* out = picture.values.data();
  for (std::int64_t pixel = 0; pixel < pixels; ++pixel)
    for (std::int64_t channel = 0; channel < picture.channels; ++channel)
      *out++ = sample[static_cast<std::size_t>(pixel * pixel_stride + channel * channel_stride)];
  return picture;
}

/// Large pictures smaller, and small ones larger by a whole number, pixel by pixel.
Picture as_tile(const Picture& picture) {
  const std::int64_t larger = std::max(picture.rows, picture.columns);
  if (larger > largest_tile) {
    const auto shrunk = [&](std::int64_t side) {
      return std::max<std::int64_t>(1, side * largest_tile / larger);
    };
    return fit_picture(picture, shrunk(picture.rows), shrunk(picture.columns));
  }
  const std::int64_t factor = (smallest_tile + larger - 1) / larger;
  Picture tile{picture.rows * factor, picture.columns * factor, picture.channels, {}};
  for (std::int64_t row = 0; row < tile.rows; ++row)
    for (std::int64_t column = 0; column < tile.columns; ++column) {
      const std::byte* pixel =
          picture.values.data() + (row / factor * picture.columns + column / factor) * picture.channels;
      tile.values.insert(tile.values.end(), pixel, pixel + picture.channels);
    }
  return tile;
}

/// Tiles side by side, with a thin gap around each.
Picture make_sheet(const std::vector<Picture>& tiles, std::int64_t columns) {
  const Picture& first = tiles[0];
  const std::int64_t rows = (static_cast<std::int64_t>(tiles.size()) + columns - 1) / columns;
  Picture sheet{rows * (first.rows + gap) + gap, columns * (first.columns + gap) + gap, first.channels, {}};
  sheet.values.assign(static_cast<std::size_t>(sheet.rows * sheet.columns * sheet.channels), background);
  const std::int64_t line = first.columns * first.channels;
  for (std::size_t i = 0; i < tiles.size(); ++i) {
    const std::int64_t top = static_cast<std::int64_t>(i) / columns * (first.rows + gap) + gap;
    const std::int64_t left = static_cast<std::int64_t>(i) % columns * (first.columns + gap) + gap;
    for (std::int64_t row = 0; row < first.rows; ++row)
      std::copy_n(tiles[i].values.data() + row * line, line,
                  sheet.values.data() + ((top + row) * sheet.columns + left) * sheet.channels);
  }
  return sheet;
}

std::string class_name(const DatasetInfo& info, std::int32_t label) {
  const auto at = static_cast<std::size_t>(label);
  return at < info.class_names.size() ? info.class_names[at] : concat(label);
}

Result<Preview> preview_images(const Dataset& dataset, std::int64_t count) {
  const DatasetInfo& info = dataset.info();
  PACELINE_ASSIGN(const Shape shape, shape_of(info));
  const auto columns = static_cast<std::int64_t>(std::ceil(std::sqrt(static_cast<double>(count))));
  std::vector<Picture> tiles;
  Preview preview;
  PACELINE_TRY(visit_samples(dataset, count, [&](const Chunk& chunk, std::int64_t i) -> Status {
    PACELINE_ASSIGN(const Picture picture, picture_of(info, shape, chunk.sample(i)));
    if (static_cast<std::int64_t>(tiles.size()) % columns == 0) preview.labels.emplace_back();
    preview.labels.back().push_back(class_name(info, chunk.label(i)));
    tiles.push_back(as_tile(picture));
    return {};
  }));
  PACELINE_ASSIGN(const std::vector<std::byte> png, encode_png(make_sheet(tiles, columns)));
  preview.png.assign(reinterpret_cast<const char*>(png.data()), png.size());
  return preview;
}

std::vector<std::int32_t> tokens_of(std::span<const std::byte> sample, const std::string& dtype) {
  const std::size_t width = dtype == "u8" ? 1 : dtype == "u16" ? 2 : 4;
  std::vector<std::int32_t> tokens(sample.size() / width);
  for (std::size_t i = 0; i < tokens.size(); ++i)  // little-endian, as the format
    std::memcpy(&tokens[i], sample.data() + i * width, width);
  return tokens;
}

Result<Preview> preview_texts(const Dataset& dataset, std::int64_t count, const PreviewOptions& options) {
  const DatasetInfo& info = dataset.info();
  std::optional<Tokenizer> tokenizer;
  if (info.tokenizer != "bytes") {
    PACELINE_ASSIGN(Tokenizer opened, Tokenizer::open(options.tokenizer_program, info.tokenizer));
    tokenizer.emplace(std::move(opened));
  }
  Preview preview;
  PACELINE_TRY(visit_samples(dataset, count, [&](const Chunk& chunk, std::int64_t i) -> Status {
    std::span<const std::byte> sample = chunk.sample(i);
    const std::size_t width = info.dtype == "u8" ? 1 : info.dtype == "u16" ? 2 : 4;
    sample = sample.first(std::min(sample.size(), static_cast<std::size_t>(window_tokens) * width));
    if (!tokenizer) {
      preview.texts.emplace_back(reinterpret_cast<const char*>(sample.data()), sample.size());
      return {};
    }
    PACELINE_ASSIGN(std::string text, tokenizer->decode(tokens_of(sample, info.dtype)));
    preview.texts.push_back(std::move(text));
    return {};
  }));
  return preview;
}

}  // namespace

Result<Preview> preview_dataset(const std::string& path, const PreviewOptions& options) {
  DatasetOptions dataset_options;
  PACELINE_ASSIGN(Dataset dataset, Dataset::open(path, dataset_options));
  const bool is_text = dataset.info().kind == SampleKind::tokens;
  if (is_text) {
    dataset_options.window = std::min(window_tokens, dataset.info().tokens - 1);
    PACELINE_ASSIGN(dataset, Dataset::open(path, dataset_options));
  }
  if (options.count < 0 || options.count > most_shown)
    return Error{ErrorCode::invalid_argument,
                 concat("a preview of ", options.count, ": use 1 to ", most_shown)};
  const std::int64_t wanted = options.count > 0 ? options.count : is_text ? default_texts : default_images;
  const std::int64_t count = std::min(wanted, dataset.info().samples);
  return is_text ? preview_texts(dataset, count, options) : preview_images(dataset, count);
}

}  // namespace paceline

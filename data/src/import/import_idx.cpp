#include <sys/stat.h>

#include <algorithm>
#include <ranges>

#include "dataset_writer.hpp"
#include "idx.hpp"
#include "image_source.hpp"
#include "kinds.hpp"
#include "listing.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

/// What tells one set of IDX files from another.
struct IdxKind {
  std::string name;
  std::string default_source;       ///< empty: the user must say
  std::string debian_package;       ///< that puts it there
  std::vector<std::int64_t> image;  ///< sizes of an image; empty: any
  std::int64_t classes = 0;         ///< 0: as many as the labels say
  std::vector<std::string> class_names;
};

struct IdxPaths {
  std::string images;
  std::string labels;
};

/// A file that can be opened: `name` in the folder, compressed or not.
Result<std::string> find_file(const std::string& folder, const char* name) {
  struct stat status {};
  for (const char* ending : {"", ".gz"}) {
    std::string path = concat(folder, "/", name, ending);
    if (::stat(path.c_str(), &status) == 0) return path;
  }
  return Error{ErrorCode::not_found, concat(shown(folder), " has neither ", name, " nor ", name,
                                            ".gz: give the folder that holds the IDX files")};
}

/// Train and, where there is one, test: the four files of a folder, or two or four files as they were given.
Result<std::vector<IdxPaths>> find_pairs(const IdxKind& kind, const std::vector<std::string>& sources) {
  if (kind.image.empty() && (sources.size() == 2 || sources.size() == 4)) {
    std::vector<IdxPaths> pairs;
    for (std::size_t i = 0; i < sources.size(); i += 2) pairs.push_back({sources[i], sources[i + 1]});
    return pairs;
  }
  const std::string what = kind.image.empty() ? "" : concat(" of ", kind.name);
  if (sources.empty() && kind.default_source.empty())
    return Error{ErrorCode::invalid_argument,
                 concat("importing ", kind.name, " needs the folder with its IDX files as SOURCE",
                        kind.image.empty() ? ", or images and labels of train and test" : "")};
  const std::string folder = sources.empty() ? kind.default_source : sources[0];
  if (sources.size() > 1)
    return Error{
        ErrorCode::invalid_argument,
        concat(sources.size(), " sources for ", kind.name, ": give one folder",
               kind.image.empty() ? ", or the files: images and labels of train, then those of test" : "")};
  if (!is_folder(folder))
    return Error{
        ErrorCode::not_found,
        sources.empty()
            ? concat(kind.name, " is not at ", folder, ": install the Debian package ", kind.debian_package,
                     ", or give the folder with its IDX files as SOURCE")
            : concat(shown(folder), " is not a folder: give the one that holds the IDX files", what)};
  std::vector<IdxPaths> pairs(2);
  PACELINE_ASSIGN(pairs[0].images, find_file(folder, "train-images-idx3-ubyte"));
  PACELINE_ASSIGN(pairs[0].labels, find_file(folder, "train-labels-idx1-ubyte"));
  PACELINE_ASSIGN(pairs[1].images, find_file(folder, "t10k-images-idx3-ubyte"));
  PACELINE_ASSIGN(pairs[1].labels, find_file(folder, "t10k-labels-idx1-ubyte"));
  return pairs;
}

std::string text_of(std::span<const std::int64_t> sizes) {
  std::string text;
  for (const std::int64_t size : sizes) text += concat(text.empty() ? "" : "x", size);
  return text;
}

/// Images in their file's order; labels are small and in memory.
class IdxSource : public ImageSource {
 public:
  IdxSource(IdxFile images, std::vector<std::int32_t> labels)
      : images_(std::move(images)), labels_(std::move(labels)) {}

  [[nodiscard]] const IdxFile& images() const { return images_; }
  [[nodiscard]] const std::vector<std::int32_t>& labels() const { return labels_; }
  [[nodiscard]] std::int64_t sample_bytes() const {
    std::int64_t bytes = 1;
    for (std::size_t i = 1; i < images_.sizes().size(); ++i) bytes *= images_.sizes()[i];
    return bytes;
  }

  [[nodiscard]] std::int64_t items() const override { return images_.sizes()[0]; }
  [[nodiscard]] Result<std::unique_ptr<ImagePart>> take(std::int64_t first, std::int64_t count) override {
    std::vector<std::byte> values(static_cast<std::size_t>(count * sample_bytes()));
    PACELINE_TRY(images_.read(values));
    const auto labels = labels_.begin() + first;
    return std::unique_ptr<ImagePart>(
        std::make_unique<StoredPart>(std::move(values), std::vector<std::int32_t>(labels, labels + count)));
  }
  [[nodiscard]] Status expect_end() override { return images_.expect_end(); }

 private:
  IdxFile images_;
  std::vector<std::int32_t> labels_;
};

Status check_images(const IdxKind& kind, const std::string& path, const std::vector<std::int64_t>& sizes) {
  const std::span<const std::int64_t> image = std::span(sizes).subspan(1);
  if (!kind.image.empty() && !std::equal(image.begin(), image.end(), kind.image.begin(), kind.image.end()))
    return Error{ErrorCode::corrupt,
                 concat(shown(path), ": its images are ", text_of(image), ", and those of ", kind.name,
                        " are ", text_of(kind.image), "; is it the right file?")};
  std::int64_t bytes = 1;
  for (const std::int64_t size : image)
    bytes = size < 1 || bytes > chunk_limit_bytes / size ? 0 : bytes * size;
  if (bytes == 0)
    return Error{ErrorCode::corrupt, concat(shown(path), ": its images are ", text_of(image),
                                            ", which is nothing or more than 1 GiB; get the file again")};
  if (sizes[0] < 1 || sizes[0] > sample_count_limit)
    return Error{ErrorCode::corrupt, concat(shown(path), ": it has ", sizes[0], " images, which is not 1 to ",
                                            sample_count_limit)};
  return {};
}

Result<std::vector<std::int32_t>> read_labels(const IdxKind& kind, IdxFile& file) {
  std::vector<std::byte> raw(static_cast<std::size_t>(file.sizes()[0]));
  PACELINE_TRY(file.read(raw));
  PACELINE_TRY(file.expect_end());
  std::vector<std::int32_t> labels;
  labels.reserve(raw.size());
  for (const std::byte label : raw) {
    labels.push_back(std::to_integer<std::int32_t>(label));
    if (kind.classes > 0 && labels.back() >= kind.classes)
      return Error{ErrorCode::corrupt,
                   concat(shown(file.path()), ": label ", labels.size() - 1, " is ", labels.back(), ", and ",
                          kind.name, " has the classes 0 to ", kind.classes - 1, "; get the file again")};
  }
  return labels;
}

Result<std::unique_ptr<IdxSource>> open_pair(const IdxKind& kind, const IdxPaths& paths) {
  const bool any = kind.image.empty();
  PACELINE_ASSIGN(IdxFile images, IdxFile::open(paths.images, any ? 2 : 3, any ? 4 : 3));
  PACELINE_ASSIGN(IdxFile labels, IdxFile::open(paths.labels, 1, 1));
  // Before memory is taken for labels: a header may say anything.
  if (images.sizes()[0] != labels.sizes()[0])
    return Error{ErrorCode::corrupt,
                 concat(shown(paths.images), " has ", images.sizes()[0], " images, but ", shown(paths.labels),
                        " has ", labels.sizes()[0], " labels; do they belong together?")};
  PACELINE_TRY(check_images(kind, paths.images, images.sizes()));
  PACELINE_ASSIGN(std::vector<std::int32_t> values, read_labels(kind, labels));
  return std::make_unique<IdxSource>(std::move(images), std::move(values));
}

/// Three sizes of which the last, or else the first, can be a number of channels; two are one channel; one is
/// no image.
void set_shape(Manifest& manifest, const std::vector<std::int64_t>& sizes) {
  manifest.sample_shape.assign(sizes.begin() + 1, sizes.end());
  std::vector<std::int64_t>& shape = manifest.sample_shape;
  const auto is_channels = [](std::int64_t size) { return size == 1 || size == 3 || size == 4; };
  if (shape.size() == 2 && manifest.storage == Storage::jpeg) shape.push_back(1);
  if (shape.size() == 2) shape.insert(shape.begin(), 1);
  manifest.layout = shape.size() == 3 && is_channels(shape[2]) && !is_channels(shape[0]) ? ImageLayout::hwc
                                                                                         : ImageLayout::chw;
  if (manifest.storage == Storage::jpeg) manifest.layout = ImageLayout::hwc;
}

Status check_jpeg(const Manifest& manifest, const std::string& path) {
  if (manifest.storage != Storage::jpeg) return {};
  const std::vector<std::int64_t>& shape = manifest.sample_shape;
  if (shape.size() == 3 && (shape[2] == 1 || shape[2] == 3)) return {};
  return Error{ErrorCode::invalid_argument,
               concat("--storage jpeg is for images of 1 or 3 channels, innermost, and those in ",
                      shown(path), " are ", text_of(shape), ": use raw, lz4 or zstd")};
}

Result<ImageSplit> make_split(const IdxKind& kind, const std::string& name, std::int64_t classes,
                              std::unique_ptr<IdxSource> source, ImportRun& run) {
  ImageSplit split;
  split.name = name;
  Manifest& manifest = split.manifest;
  PACELINE_ASSIGN(manifest.storage, chosen_storage(run.options(), Storage::raw));
  manifest.name = concat(kind.name, "/", name);
  manifest.classes = classes;
  manifest.class_names = kind.class_names;
  set_shape(manifest, source->images().sizes());
  PACELINE_TRY(check_jpeg(manifest, source->images().path()));
  split.item_bytes = source->sample_bytes();
  split.source = std::move(source);
  return split;
}

Status import_files(const IdxKind& kind, ImportRun& run, const std::string& folder) {
  PACELINE_ASSIGN(const std::vector<IdxPaths> pairs, find_pairs(kind, run.options().sources));
  std::vector<std::unique_ptr<IdxSource>> sources;
  std::int64_t classes = kind.classes;
  std::int64_t bytes = 0;
  for (const IdxPaths& paths : pairs) {
    PACELINE_ASSIGN(std::unique_ptr<IdxSource> source, open_pair(kind, paths));
    for (const std::int32_t label : source->labels()) classes = std::max<std::int64_t>(classes, label + 1);
    bytes += source->items() * (source->sample_bytes() + std::int64_t{sizeof(std::int32_t)});
    sources.push_back(std::move(source));
  }
  if (sources.size() > 1 && !std::ranges::equal(sources[0]->images().sizes() | std::views::drop(1),
                                                sources[1]->images().sizes() | std::views::drop(1)))
    return Error{
        ErrorCode::corrupt,
        concat("images are ", text_of(std::span(sources[0]->images().sizes()).subspan(1)), " in ",
               shown(pairs[0].images), " and ", text_of(std::span(sources[1]->images().sizes()).subspan(1)),
               " in ", shown(pairs[1].images), "; do they belong together?")};
  run.set_needed_bytes(bytes);
  for (std::size_t i = 0; i < sources.size(); ++i) {
    PACELINE_ASSIGN(ImageSplit split,
                    make_split(kind, i == 0 ? "train" : "test", classes, std::move(sources[i]), run));
    PACELINE_TRY(write_images(run, folder, split));
  }
  return {};
}

}  // namespace

Status import_idx(ImportRun& run, const std::string& folder) {
  return import_files({"idx", {}, {}, {}, 0, {}}, run, folder);
}

Status import_mnist(ImportRun& run, const std::string& folder) {
  return import_files({"mnist", {}, {}, {28, 28}, 10, {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}},
                      run, folder);
}

Status import_fashion_mnist(ImportRun& run, const std::string& folder) {
  return import_files({"fashion-mnist",
                       "/usr/share/datasets/fashion-mnist",
                       "dataset-fashion-mnist",
                       {28, 28},
                       10,
                       {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
                        "Bag", "Ankle boot"}},
                      run, folder);
}

}  // namespace paceline

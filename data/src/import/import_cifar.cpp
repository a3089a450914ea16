#include <sys/stat.h>

#include <algorithm>

#include "cifar.hpp"
#include "dataset_writer.hpp"
#include "image_source.hpp"
#include "kinds.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

struct CifarKind {
  std::string name;
  std::string subfolder;  ///< what the archive of the set unpacks to
  std::int64_t label_bytes = 1;
  std::int64_t classes = 10;
  std::string names_file;  ///< one class name a line
  std::vector<std::string> train;
  std::vector<std::string> test;
};

/// Planes to channels innermost, for what is kept as JPEG.
std::vector<std::byte> interleaved(const std::vector<std::byte>& planes) {
  constexpr std::size_t pixels = cifar_image_bytes / 3;
  std::vector<std::byte> values(planes.size());
  for (std::size_t image = 0; image < planes.size(); image += cifar_image_bytes)
    for (std::size_t pixel = 0; pixel < pixels; ++pixel)
      for (std::size_t channel = 0; channel < 3; ++channel)
        values[image + 3 * pixel + channel] = planes[image + channel * pixels + pixel];
  return values;
}

/// The records of several files, one file after the other.
class CifarSource : public ImageSource {
 public:
  CifarSource(std::vector<CifarFile> files, std::int64_t classes, bool interleave)
      : files_(std::move(files)), classes_(classes), interleave_(interleave) {}

  [[nodiscard]] std::int64_t items() const override {
    std::int64_t records = 0;
    for (const CifarFile& file : files_) records += file.records();
    return records;
  }

  [[nodiscard]] Result<std::unique_ptr<ImagePart>> take(std::int64_t first, std::int64_t count) override {
    std::vector<std::byte> values;
    std::vector<std::int32_t> labels;
    for (const CifarFile& file : files_) {
      const std::int64_t here = std::min(count, file.records() - first);
      if (here > 0) {
        PACELINE_TRY(file.read(first, here, classes_, values, labels));
        count -= here;
      }
      first = std::max<std::int64_t>(0, first - file.records());
    }
    if (interleave_) values = interleaved(values);
    return std::unique_ptr<ImagePart>(std::make_unique<StoredPart>(std::move(values), std::move(labels)));
  }

 private:
  std::vector<CifarFile> files_;
  std::int64_t classes_;
  bool interleave_;
};

bool exists(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0;
}

Result<std::string> find_folder(const CifarKind& kind, const std::vector<std::string>& sources) {
  if (sources.size() != 1)
    return Error{ErrorCode::invalid_argument, concat("importing ", kind.name, " needs the folder with ",
                                                     kind.train[0], " as its one SOURCE")};
  for (const std::string& folder : {sources[0], concat(sources[0], "/", kind.subfolder)})
    if (exists(concat(folder, "/", kind.train[0]))) return folder;
  return Error{
      ErrorCode::not_found,
      concat(shown(sources[0]), exists(sources[0]) ? " has no " : " is not there, so it has no ",
             kind.train[0], ": give the folder with the binary version of ", kind.name, ", unpacked")};
}

/// The files of one split. A set has files of one size, so one that differs was cut between two records.
Result<std::vector<CifarFile>> open_files(const CifarKind& kind, const std::string& folder,
                                          const std::vector<std::string>& names) {
  std::vector<CifarFile> files;
  for (const std::string& name : names) {
    PACELINE_ASSIGN(CifarFile file, CifarFile::open(concat(folder, "/", name), kind.label_bytes));
    if (!files.empty() && file.records() != files[0].records())
      return Error{ErrorCode::corrupt,
                   concat(shown(file.path()), " has ", file.records(), " images, but ",
                          shown(files[0].path()), " has ", files[0].records(),
                          "; all files of the set have the same number: get the shorter one again")};
    files.push_back(std::move(file));
  }
  return files;
}

/// None where the file is missing or isn't what it should be: names are a convenience.
std::vector<std::string> read_class_names(const CifarKind& kind, const std::string& folder) {
  const Result<std::string> text = read_file(concat(folder, "/", kind.names_file), 1U << 16);
  std::vector<std::string> names;
  if (!text.ok()) return names;
  for (std::string& name : split(*text, '\n')) {
    if (!name.empty() && name.back() == '\r') name.pop_back();
    if (!name.empty() && name.size() < 256 && is_utf8(name)) names.push_back(std::move(name));
  }
  if (static_cast<std::int64_t>(names.size()) != kind.classes) names.clear();
  return names;
}

Status import_cifar(const CifarKind& kind, ImportRun& run, const std::string& folder) {
  PACELINE_ASSIGN(const std::string source, find_folder(kind, run.options().sources));
  PACELINE_ASSIGN(const Storage storage, chosen_storage(run.options(), Storage::raw));
  PACELINE_ASSIGN(std::vector<CifarFile> train, open_files(kind, source, kind.train));
  PACELINE_ASSIGN(std::vector<CifarFile> test, open_files(kind, source, kind.test));
  const bool jpeg = storage == Storage::jpeg;
  std::vector<ImageSplit> splits(2);
  splits[0].name = "train";
  splits[0].source = std::make_unique<CifarSource>(std::move(train), kind.classes, jpeg);
  splits[1].name = "test";
  splits[1].source = std::make_unique<CifarSource>(std::move(test), kind.classes, jpeg);
  std::int64_t bytes = 0;
  for (const ImageSplit& split : splits)
    bytes += split.source->items() * (cifar_image_bytes + std::int64_t{sizeof(std::int32_t)});
  run.set_needed_bytes(bytes);
  for (ImageSplit& split : splits) {
    split.item_bytes = cifar_image_bytes;
    Manifest& manifest = split.manifest;
    manifest.name = concat(kind.name, "/", split.name);
    manifest.storage = storage;
    manifest.layout = jpeg ? ImageLayout::hwc : ImageLayout::chw;
    manifest.sample_shape =
        jpeg ? std::vector<std::int64_t>{32, 32, 3} : std::vector<std::int64_t>{3, 32, 32};
    manifest.classes = kind.classes;
    manifest.class_names = read_class_names(kind, source);
    PACELINE_TRY(write_images(run, folder, split));
  }
  return {};
}

}  // namespace

Status import_cifar10(ImportRun& run, const std::string& folder) {
  return import_cifar(
      {"cifar10",
       "cifar-10-batches-bin",
       1,
       10,
       "batches.meta.txt",
       {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"},
       {"test_batch.bin"}},
      run, folder);
}

Status import_cifar100(ImportRun& run, const std::string& folder) {
  return import_cifar(
      {"cifar100", "cifar-100-binary", 2, 100, "fine_label_names.txt", {"train.bin"}, {"test.bin"}}, run,
      folder);
}

}  // namespace paceline

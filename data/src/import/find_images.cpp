#include <algorithm>
#include <array>
#include <cctype>
#include <map>

#include "dataset_writer.hpp"
#include "image_files.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr double default_test_fraction = 0.1;

bool is_image_name(const std::string& path) {
  const std::size_t dot = path.rfind('.');
  if (dot == std::string::npos) return false;
  std::string ending = path.substr(dot + 1);
  for (char& c : ending) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return ending == "jpg" || ending == "jpeg" || ending == "png";
}

Status check_class_name(const std::string& folder, const std::string& name) {
  if (is_utf8(name) && name.size() <= 255) return {};
  return Error{ErrorCode::invalid_argument, concat(shown(concat(folder, "/", name)),
                                                   ": the name of a class must be UTF-8: rename the folder")};
}

/// The images of one folder of classes; labels are places in `classes`.
Result<std::vector<ImageFile>> files_of(const std::string& folder, const std::vector<std::string>& classes) {
  std::vector<ImageFile> images;
  PACELINE_ASSIGN(const std::vector<std::string> names, list_folders(folder));
  for (const std::string& name : names) {
    const std::string path = concat(folder, "/", name);
    const auto found = std::find(classes.begin(), classes.end(), name);
    PACELINE_ASSIGN(const std::vector<ListedFile> files, list_files(path));
    for (const ListedFile& file : files) {
      if (!is_image_name(file.path)) continue;
      if (found == classes.end())
        return Error{ErrorCode::invalid_argument,
                     concat(shown(file.path), " is of the class ", shown(name),
                            ", which has no images to train on: remove it, or add some")};
      images.push_back({file.path, file.bytes, static_cast<std::int32_t>(found - classes.begin())});
    }
  }
  return images;
}

/// The folders of classes that have images. One without any is a mistake that would shift all labels.
Result<std::vector<std::string>> classes_in(const std::string& folder) {
  PACELINE_ASSIGN(std::vector<std::string> names, list_folders(folder));
  if (names.empty())
    return Error{ErrorCode::not_found,
                 concat(shown(folder),
                        " has no folders in it: give a folder with one folder of JPEG or PNG "
                        "files for each class")};
  for (const std::string& name : names) {
    PACELINE_TRY(check_class_name(folder, name));
    const std::string path = concat(folder, "/", name);
    PACELINE_ASSIGN(const std::vector<ListedFile> files, list_files(path));
    if (std::none_of(files.begin(), files.end(), [](const ListedFile& f) { return is_image_name(f.path); }))
      return Error{ErrorCode::not_found, concat(shown(path),
                                                " has no .jpg, .jpeg or .png files: remove the "
                                                "folder, or add some")};
  }
  return names;
}

/// Moves a fraction of `files` to a test set: which ones is a function of their paths below `source`.
std::vector<ImageFile> take_test_files(std::vector<ImageFile>& files, const std::string& source,
                                       double fraction) {
  const auto stays = [&](const ImageFile& file) {
    return !falls_to_test(file.path.substr(source.size() + 1), fraction);
  };
  const auto test = std::stable_partition(files.begin(), files.end(), stays);
  std::vector<ImageFile> taken(std::make_move_iterator(test), std::make_move_iterator(files.end()));
  files.erase(test, files.end());
  if (taken.empty() && files.size() > 1 && fraction > 0) {  // small sets are to have one too
    taken.push_back(std::move(files.back()));
    files.pop_back();
  }
  return taken;
}

Result<ImageFolder> find_given_splits(const std::string& source) {
  ImageFolder folder;
  PACELINE_ASSIGN(folder.class_names, classes_in(concat(source, "/train")));
  const bool has_test = is_folder(concat(source, "/test"));
  for (const char* name : {"train", "test", "val"}) {
    const std::string path = concat(source, "/", name);
    if (!is_folder(path)) continue;
    const bool stands_for_test = std::string_view(name) == "val" && !has_test;
    ImageFolder::Split split{stands_for_test ? "test" : name, {}};
    PACELINE_ASSIGN(split.files, files_of(path, folder.class_names));
    if (split.files.empty())
      return Error{ErrorCode::not_found, concat(shown(path),
                                                " has no .jpg, .jpeg or .png files in folders of "
                                                "classes: remove it, or add some")};
    folder.splits.push_back(std::move(split));
  }
  return folder;
}

Result<ImageFolder> find_and_split(const std::string& source, double fraction) {
  ImageFolder folder;
  PACELINE_ASSIGN(folder.class_names, classes_in(source));
  folder.splits.resize(1);
  folder.splits[0].name = "train";
  PACELINE_ASSIGN(folder.splits[0].files, files_of(source, folder.class_names));
  std::vector<ImageFile> test = take_test_files(folder.splits[0].files, source, fraction);
  if (folder.splits[0].files.empty())
    return Error{ErrorCode::invalid_argument,
                 concat("--test-fraction ", fraction, " of the ", test.size(), " images in ", shown(source),
                        " leaves none to train on: use a smaller one")};
  if (!test.empty()) folder.splits.push_back({"test", std::move(test)});
  return folder;
}

}  // namespace

std::int64_t ImageFolder::files() const {
  std::size_t count = 0;
  for (const Split& split : splits) count += split.files.size();
  return static_cast<std::int64_t>(count);
}

Result<ImageFolder> find_images(const std::string& source, std::optional<double> test_fraction) {
  if (!is_folder(source))
    return Error{ErrorCode::not_found,
                 concat(shown(source), " is not a folder: give one with a folder of images for each class")};
  const bool has_train = is_folder(concat(source, "/train"));
  const bool has_test = is_folder(concat(source, "/test")) || is_folder(concat(source, "/val"));
  if (has_train && has_test && test_fraction)
    return Error{ErrorCode::invalid_argument,
                 concat(shown(source), " has a test set of its own: leave --test-fraction out")};
  const std::string top = has_train && !has_test ? concat(source, "/train") : source;
  Result<ImageFolder> folder = has_train && has_test
                                   ? find_given_splits(source)
                                   : find_and_split(top, test_fraction.value_or(default_test_fraction));
  if (!folder.ok()) return folder;
  for (ImageFolder::Split& split : folder->splits) shuffle_always_alike(split.files);
  return folder;
}

}  // namespace paceline

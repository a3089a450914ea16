#include "listing.hpp"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <set>
#include <utility>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

struct CloseFolder {
  void operator()(DIR* folder) const noexcept { ::closedir(folder); }
};

/// Sorted, without hidden ones.
Result<std::vector<std::string>> names_in(const std::string& path) {
  const std::unique_ptr<DIR, CloseFolder> folder(::opendir(path.c_str()));
  if (folder == nullptr) return system_error(concat("cannot read the folder ", shown(path)));
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(folder.get())) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    errno = 0;
  }
  if (errno != 0) return system_error(concat("cannot read the folder ", shown(path)));
  std::sort(names.begin(), names.end());
  return names;
}

class Lister {
 public:
  Status add(const std::string& path, bool is_named_by_user = false) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
      if (is_named_by_user) return system_error(concat("cannot open ", shown(path)));
      files.push_back({path, 0});  // a broken link: whoever opens it says so
      return {};
    }
    if (S_ISREG(status.st_mode)) files.push_back({path, status.st_size});
    // A link may lead back to a folder above it.
    if (!S_ISDIR(status.st_mode) || !seen_.emplace(status.st_dev, status.st_ino).second) return {};
    PACELINE_ASSIGN(const std::vector<std::string> names, names_in(path));
    for (const std::string& name : names)
      PACELINE_TRY(add(concat(path, path.ends_with('/') ? "" : "/", name)));
    return {};
  }

  std::vector<ListedFile> files;

 private:
  std::set<std::pair<dev_t, ino_t>> seen_;
};

}  // namespace

bool is_folder(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

Result<std::vector<ListedFile>> list_files(const std::string& path) {
  Lister lister;
  PACELINE_TRY(lister.add(path, true));
  return std::move(lister.files);
}

Result<std::vector<std::string>> list_folders(const std::string& path) {
  PACELINE_ASSIGN(std::vector<std::string> names, names_in(path));
  std::erase_if(names, [&](const std::string& name) { return !is_folder(concat(path, "/", name)); });
  return names;
}

}  // namespace paceline

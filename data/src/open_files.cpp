#include "open_files.hpp"

#include <fcntl.h>

#include <algorithm>

#include "paceline/base/text.hpp"

namespace paceline {

Result<UniqueFd> open_for_reading(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.valid()) return fd;
  if (errno == ENOENT)
    return Error{ErrorCode::not_found,
                 concat(path, " is missing; restore the file or import the dataset again")};
  return system_error(concat("cannot open ", path));
}

OpenFiles::OpenFiles(std::vector<std::string> paths, std::size_t capacity)
    : paths_(std::move(paths)), capacity_(capacity) {
}

Result<OpenFiles::File> OpenFiles::get(std::size_t file) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(open_.begin(), open_.end(), [&](const Open& o) { return o.file == file; });
  if (found != open_.end()) {
    std::rotate(found, found + 1, open_.end());
    return open_.back().descriptor;
  }
  PACELINE_ASSIGN(UniqueFd fd, open_for_reading(paths_[file]));
  if (open_.size() == capacity_) open_.erase(open_.begin());
  open_.push_back({file, std::make_shared<const UniqueFd>(std::move(fd))});
  return open_.back().descriptor;
}

void OpenFiles::forget(std::size_t file) {
  const std::lock_guard lock(mutex_);
  std::erase_if(open_, [&](const Open& o) { return o.file == file; });
}

}  // namespace paceline

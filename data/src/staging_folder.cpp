#include "staging_folder.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "dataset_folder.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

namespace fs = std::filesystem;

Error taken(const std::string& out) {
  const bool is_dataset = read_manifest(out).ok() || read_manifest(concat(out, "/train")).ok();
  return {ErrorCode::already_exists,
          concat(out, is_dataset ? " already holds a dataset" : " already exists and is not an empty folder",
                 ": remove it, or import elsewhere")};
}

Status check_free(const std::string& out) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(out, error);
  if (status.type() == fs::file_type::not_found) return {};
  if (error) return system_error(concat("cannot look at ", out), error.value());
  if (status.type() == fs::file_type::directory && fs::is_empty(out, error) && !error) return {};
  return taken(out);
}

}  // namespace

StagingFolder::StagingFolder(StagingFolder&& other) noexcept
    : out_(std::move(other.out_)),
      partial_(std::exchange(other.partial_, {})),
      made_parents_(std::exchange(other.made_parents_, {})) {
}

Result<StagingFolder> StagingFolder::create(const std::string& given_out) {
  const std::string out = without_trailing_slashes(given_out);
  StagingFolder folder;
  folder.out_ = out;
  const std::string name = folder.out_.filename();
  if (name.empty() || name == "." || name == "..")
    return Error{
        ErrorCode::invalid_argument,
        concat("\"", given_out, "\" cannot be imported into: name a folder that does not exist yet")};
  PACELINE_TRY(check_free(out));
  PACELINE_TRY(folder.make_parents());
  const std::string partial = concat(".", name, ".partial-", ::getpid());
  for (int attempt = 0; attempt < 100; ++attempt) {
    const fs::path path =
        folder.out_.parent_path() / (attempt == 0 ? partial : concat(partial, "-", attempt));
    if (::mkdir(path.c_str(), 0777) == 0) {
      folder.partial_ = path;
      return folder;
    }
    if (errno != EEXIST) return system_error(concat("cannot create ", path.string()));
  }
  return Error{ErrorCode::already_exists,
               concat("100 unfinished imports lie beside ", out, " (", partial, "-*): remove them")};
}

Status StagingFolder::make_parents() {
  std::vector<fs::path> missing;
  std::error_code error;
  for (fs::path parent = out_.parent_path(); !parent.empty() && !fs::exists(parent, error);
       parent = parent.parent_path())
    missing.push_back(parent);
  std::reverse(missing.begin(), missing.end());
  for (const fs::path& parent : missing) {
    if (::mkdir(parent.c_str(), 0777) == 0)
      made_parents_.push_back(parent);
    else if (errno != EEXIST)  // someone else's import made it meanwhile
      return system_error(concat("cannot create ", parent.string()));
  }
  return {};
}

Status StagingFolder::publish(const SpaceReport& report) {
  PACELINE_TRY(sync_path(report, path()));
  if (::rename(partial_.c_str(), out_.c_str()) != 0) {
    if (errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR) return taken(out_.string());
    return report.error(concat("cannot rename ", path(), " to ", out_.string()), errno);
  }
  partial_.clear();
  made_parents_.clear();
  const fs::path parent = out_.parent_path();
  return sync_path(report, parent.empty() ? "." : parent.string());
}

StagingFolder::~StagingFolder() {
  std::error_code ignored;  // a destructor has no one to tell; what stays behind is named as partial
  if (!partial_.empty()) fs::remove_all(partial_, ignored);
  for (auto parent = made_parents_.rbegin(); parent != made_parents_.rend(); ++parent)
    ::rmdir(parent->c_str());  // fails, rightly, where someone else put something into it
}

}  // namespace paceline

#include "staging_folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <limits>
#include <utility>

#include "dataset_folder.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

namespace fs = std::filesystem;

Error taken(const std::string& out) {
  const bool is_dataset = read_manifest(out).ok() || read_manifest(concat(out, "/train")).ok();
  return {ErrorCode::already_exists,
          concat(shown(out),
                 is_dataset ? " already holds a dataset" : " already exists and is not an empty folder",
                 ": remove it, or import elsewhere")};
}

Status check_free(const std::string& out) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(out, error);
  if (status.type() == fs::file_type::not_found) return {};
  if (error) return system_error(concat("cannot look at ", shown(out)), error.value());
  if (status.type() == fs::file_type::directory && fs::is_empty(out, error) && !error) return {};
  return taken(out);
}

/// ".NAME.partial-HOST-": what follows is a process id, perhaps with a number.
std::string partial_prefix(const fs::path& out) {
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  std::string name = host;
  for (char& c : name)
    if (c == '/') c = '_';
  return concat(".", out.filename().string(), ".partial-", name, "-");
}

/// Neither its process nor its lock is there: the number alone may have gone to another process, and a
/// process in a container can have any number.
bool is_abandoned(const fs::path& partial, std::string_view process) {
  const auto pid = parse_integer(process.substr(0, process.find('-')), 1, std::numeric_limits<pid_t>::max());
  if (!pid || ::kill(static_cast<pid_t>(*pid), 0) == 0 || errno != ESRCH) return false;
  const UniqueFd fd(::open(partial.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  return fd.valid() && (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK);
}

/// What can't be removed stays: it is in nobody's way.
void remove_stale(const fs::path& out) {
  const std::string prefix = partial_prefix(out);
  const fs::path parent = out.has_parent_path() ? out.parent_path() : fs::path(".");
  std::error_code error;
  std::vector<fs::path> stale;
  for (fs::directory_iterator entry(parent, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(prefix) && is_abandoned(entry->path(), std::string_view(name).substr(prefix.size())))
      stale.push_back(entry->path());
  }
  for (const fs::path& path : stale) fs::remove_all(path, error);
}

}  // namespace

StagingFolder::StagingFolder(StagingFolder&& other) noexcept
    : out_(std::move(other.out_)),
      partial_(std::exchange(other.partial_, {})),
      lock_(std::move(other.lock_)),
      made_parents_(std::exchange(other.made_parents_, {})) {
}

Result<StagingFolder> StagingFolder::create(const std::string& given_out) {
  const std::string out = without_trailing_slashes(given_out);
  StagingFolder folder;
  folder.out_ = out;
  const std::string name = folder.out_.filename();
  if (name.empty() || name == "." || name == "..")
    return Error{ErrorCode::invalid_argument,
                 concat(shown(given_out), " cannot be imported into: name a folder that does not exist yet")};
  PACELINE_TRY(check_free(out));
  PACELINE_TRY(folder.make_parents());
  remove_stale(folder.out_);
  PACELINE_TRY(folder.make_partial());
  return folder;
}

Status StagingFolder::make_partial() {
  const std::string partial = concat(partial_prefix(out_), ::getpid());
  for (int attempt = 0; attempt < 100; ++attempt) {
    const fs::path path = out_.parent_path() / (attempt == 0 ? partial : concat(partial, "-", attempt));
    if (::mkdir(path.c_str(), 0777) == 0) {
      partial_ = path;
      lock_.reset(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (lock_.valid()) ::flock(lock_.get(), LOCK_EX | LOCK_NB);  // where it fails, the process id must do
      return {};
    }
    if (errno != EEXIST) return system_error(concat("cannot create ", shown(path.string())));
  }
  return Error{ErrorCode::already_exists, concat("100 unfinished imports lie beside ", shown(out_.string()),
                                                 " (", partial, "-*): remove them")};
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
      return system_error(concat("cannot create ", shown(parent.string())));
  }
  return {};
}

Status StagingFolder::publish(const SpaceReport& report) {
  PACELINE_TRY(sync_path(report, path()));
  if (::rename(partial_.c_str(), out_.c_str()) != 0) {
    if (errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR) return taken(out_.string());
    return report.error(concat("cannot rename ", shown(path()), " to ", shown(out_.string())), errno);
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

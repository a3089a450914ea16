#include "logs/end.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "paceline/base/fd.hpp"
#include "paceline/control/client.hpp"

namespace paceline {
namespace {

// A run that nobody holds may be held on another machine, where the filesystem does not show that.
constexpr Duration patience = std::chrono::seconds(10);
constexpr Duration answer_limit = std::chrono::seconds(3);

bool is_held(const std::string& run_dir) {
  const UniqueFd lock(::open((run_dir + "/lock").c_str(), O_RDONLY | O_CLOEXEC));
  return lock.valid() && ::flock(lock.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

/// Of this launch: each one writes job.json when it begins, and the summary when it ends.
bool is_summarized(const std::string& run_dir) {
  struct stat job {
  }, summary{};
  if (::stat((run_dir + "/summary.json").c_str(), &summary) != 0) return false;
  if (::stat((run_dir + "/job.json").c_str(), &job) != 0) return true;
  const timespec ended = summary.st_mtim, began = job.st_mtim;
  return ended.tv_sec != began.tv_sec ? ended.tv_sec > began.tv_sec : ended.tv_nsec >= began.tv_nsec;
}

bool is_answered_for(const std::string& run_dir) {
  const auto coordinator = control::newest_coordinator(run_dir);
  const auto credentials = control::read_credentials(run_dir);
  if (!coordinator.ok() || !*coordinator || !credentials.ok()) return false;
  control::Request request;
  request.mutable_status();
  return control::ask(**coordinator, *credentials, request, answer_limit).ok();
}

}  // namespace

bool RunEnd::is_reached() {
  if (is_held(run_dir_)) {
    free_since_.reset();
    return false;
  }
  has_summary_ = is_summarized(run_dir_);
  if (has_summary_) return true;
  if (!free_since_) free_since_ = clock_.now();
  if (clock_.now() - *free_since_ < patience) return false;
  free_since_.reset();
  return !is_answered_for(run_dir_);
}

}  // namespace paceline

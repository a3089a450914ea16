#include "telemetry_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>

#include "paceline/base/text.hpp"

namespace paceline {

TelemetryFile::TelemetryFile(std::string folder, std::int64_t worker, std::int64_t most_bytes)
    : folder_(std::move(folder)),
      path_(concat(folder_, "/worker-", worker, ".jsonl")),
      old_path_(concat(folder_, "/worker-", worker, ".old.jsonl")),
      most_bytes_(most_bytes) {
}

Result<bool> TelemetryFile::prepare() {
  if (file_.valid() && bytes_ < most_bytes_) return false;
  if (!file_.valid()) PACELINE_TRY(open());
  if (bytes_ >= most_bytes_) {
    file_.reset();
    if (::rename(path_.c_str(), old_path_.c_str()) != 0)
      return system_error(concat("cannot rename ", shown(path_)));
    PACELINE_TRY(open());
  }
  // Its last line may have been cut off.
  if (bytes_ > 0) PACELINE_TRY(write("\n"));
  return true;
}

Status TelemetryFile::open() {
  if (::mkdir(folder_.c_str(), 0777) != 0 && errno != EEXIST)
    return system_error(concat("cannot make ", shown(folder_)));
  file_.reset(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666));
  if (!file_.valid()) return system_error(concat("cannot open ", shown(path_)));
  struct stat info {};
  if (::fstat(file_.get(), &info) != 0) return system_error(concat("cannot look at ", shown(path_)));
  bytes_ = info.st_size;
  return {};
}

Status TelemetryFile::write(std::string_view lines) {
  Status written = write_all(file_.get(), lines, shown(path_));
  if (!written.ok()) file_.reset();
  bytes_ += std::ssize(lines);
  return written;
}

}  // namespace paceline

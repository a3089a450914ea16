#include "run_directory.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <filesystem>
#include <thread>

#include "paceline/base/log.hpp"

namespace paceline {
namespace {

Status make_folders(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return Error{ErrorCode::io, concat("cannot make the folder ", path, ": ", error.message())};
  return {};
}

/// Nothing was wrong with the folder, only somebody is in it.
Error in_use(const std::string& path, const UniqueFd& lock) {
  std::string holder(256, '\0');
  const ssize_t got = ::pread(lock.get(), holder.data(), holder.size(), 0);
  holder.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  holder = holder.substr(0, holder.find('\n'));
  return {ErrorCode::already_exists,
          concat("run directory ", path, " is in use by ", holder.empty() ? "another process" : holder,
                 ": wait for it, or choose another folder")};
}

Result<UniqueFd> lock_folder(const std::string& path) {
  const std::string name = path + "/lock";
  UniqueFd lock(::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!lock.valid()) return system_error(concat("cannot open ", name));
  int taken = ::flock(lock.get(), LOCK_EX | LOCK_NB);
  // Somebody may only be looking whether it is held.
  for (int attempt = 0; taken != 0 && errno == EWOULDBLOCK && attempt < 10; ++attempt) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    taken = ::flock(lock.get(), LOCK_EX | LOCK_NB);
  }
  if (taken != 0) {
    if (errno == EWOULDBLOCK) return in_use(path, lock);
    // Some parallel filesystems are mounted without locks; that must not keep anybody from training.
    log(LogLevel::warning,
        system_error(concat("cannot lock ", name, ", so nothing prevents a second run in it")).message);
  }
  char host[256] = {};
  const bool has_name = ::gethostname(host, sizeof host - 1) == 0;
  const std::string holder =
      concat("process ", ::getpid(), " on ", has_name ? host : "an unknown host", "\n");
  if (::ftruncate(lock.get(), 0) != 0) return system_error(concat("cannot write ", name));
  PACELINE_TRY(write_all(lock.get(), holder, name));
  return lock;
}

std::string utc_name(std::int64_t unix_seconds) {
  const std::time_t time = unix_seconds;
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  char text[32];
  const std::size_t length = std::strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", &parts);
  return std::string(text, length);
}

}  // namespace

Result<RunDirectory> RunDirectory::take(const std::string& path) {
  const std::string absolute = absolute_path(path);
  PACELINE_TRY(make_folders(absolute));
  PACELINE_ASSIGN(UniqueFd lock, lock_folder(absolute));
  if (::access((absolute + "/job.json").c_str(), F_OK) == 0)
    return Error{ErrorCode::already_exists,
                 concat("run directory ", absolute,
                        " already holds a run: choose another with --run-dir, or remove it")};
  PACELINE_TRY(make_folders(absolute + "/logs"));
  return RunDirectory(absolute, std::move(lock));
}

Result<RunDirectory> RunDirectory::make(const std::string& parent, std::int64_t unix_seconds) {
  constexpr int most_tries = 1000;
  const std::string absolute = absolute_path(parent);
  PACELINE_TRY(make_folders(absolute));
  for (int attempt = 1; attempt <= most_tries; ++attempt) {
    std::string path = concat(absolute, "/", utc_name(unix_seconds));
    if (attempt > 1) path += concat("-", attempt);
    // mkdir itself decides between two that start in the same second.
    if (::mkdir(path.c_str(), 0777) == 0) return take(path);
    if (errno != EEXIST) return system_error(concat("cannot make the run directory ", path));
  }
  return Error{ErrorCode::already_exists,
               concat(absolute, " holds too many runs of this second: choose a folder with --run-dir")};
}

Result<RunDirectory> RunDirectory::reopen(const std::string& path) {
  const std::string absolute = absolute_path(path);
  if (::access((absolute + "/job.json").c_str(), F_OK) != 0)
    return Error{ErrorCode::invalid_argument,
                 concat(path, " is not a run directory (", system_error("no job.json").message,
                        "): give the folder that `paceline train` named")};
  PACELINE_ASSIGN(UniqueFd lock, lock_folder(absolute));
  return RunDirectory(absolute, std::move(lock));
}

std::string absolute_path(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  if (error) return path;
  std::string text = absolute.lexically_normal().string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

Status check_writable(const std::string& path, const std::string& what) {
  struct stat found {};
  if (::stat(path.c_str(), &found) == 0 && S_ISDIR(found.st_mode))
    return Error{ErrorCode::invalid_argument,
                 concat(what, " ", path, " is a folder: give the name of a file")};
  const std::string probe = concat(path, ".partial-", ::getpid());
  const UniqueFd fd(::open(probe.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd.valid()) {
    const Error error = system_error(concat(what, " ", path, " cannot be written"));
    return Error{ErrorCode::invalid_argument,
                 error.message + ": give a place in a folder that exists and is yours"};
  }
  ::unlink(probe.c_str());
  return {};
}

}  // namespace paceline

#pragma once

#include <string>

#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// A run's folder, held by this process: nobody else starts a run in it while this object lives.
class RunDirectory {
 public:
  /// Makes `path`, with its parents, or takes it as it is. already_exists where another process holds it or
  /// where it holds a run, finished or not.
  [[nodiscard]] static Result<RunDirectory> take(const std::string& path);
  /// A new folder `parent`/<UTC time>, with a number after it where that is taken.
  [[nodiscard]] static Result<RunDirectory> make(const std::string& parent, std::int64_t unix_seconds);

  /// One that holds a run, to go on with it. already_exists where another process holds it: the run is still
  /// going on. invalid_argument where it is none.
  [[nodiscard]] static Result<RunDirectory> reopen(const std::string& path);

  [[nodiscard]] const std::string& path() const noexcept { return path_; }  ///< absolute

 private:
  RunDirectory(std::string path, UniqueFd lock) : path_(std::move(path)), lock_(std::move(lock)) {}

  std::string path_;
  UniqueFd lock_;  // flock(2): the kernel gives it back however this process ends
};

/// An absolute path without "." and "..", whether it exists or not.
[[nodiscard]] std::string absolute_path(const std::string& path);

/// An error that says why a file could not be made at `path`; `what` names the option it came from. Leaves
/// nothing behind.
[[nodiscard]] Status check_writable(const std::string& path, const std::string& what);

}  // namespace paceline

#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "paceline/base/fd.hpp"

namespace paceline {

/// Opens an existing file for reading. not_found where there is none.
[[nodiscard]] Result<UniqueFd> open_for_reading(const std::string& path);

/// Descriptors of a dataset's shards, the most recently used ones kept open: a dataset may have more shards
/// than a process may have descriptors. Thread-safe.
class OpenFiles {
 public:
  using File = std::shared_ptr<const UniqueFd>;  ///< shared: a reader may outlive the descriptor's place here

  explicit OpenFiles(std::vector<std::string> paths, std::size_t capacity = 128);
  [[nodiscard]] Result<File> get(std::size_t file);
  /// The next get() opens the file anew: what a network filesystem needs after a stale handle.
  void forget(std::size_t file);

 private:
  struct Open {
    std::size_t file = 0;
    File descriptor;
  };
  const std::vector<std::string> paths_;
  const std::size_t capacity_;
  std::mutex mutex_;
  std::vector<Open> open_;  // least recently used first
};

}  // namespace paceline

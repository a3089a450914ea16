#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"
#include "shard_writer.hpp"

namespace paceline {

/// A folder in the making: a hidden sibling of `out`, which takes its place at the end and otherwise
/// disappears with everything in it, the missing parents of `out` that were made for it included.
class StagingFolder {
 public:
  /// already_exists where `out` is anything but an empty folder. Also removes what imports into `out` left
  /// behind on this host when they were killed.
  [[nodiscard]] static Result<StagingFolder> create(const std::string& out);

  StagingFolder(StagingFolder&& other) noexcept;
  StagingFolder& operator=(StagingFolder&&) = delete;
  ~StagingFolder();

  [[nodiscard]] std::string path() const { return partial_.string(); }
  /// Renames the folder to `out`, durably. already_exists if someone else was faster.
  [[nodiscard]] Status publish(const SpaceReport& report);

 private:
  StagingFolder() = default;
  [[nodiscard]] Status make_parents();
  [[nodiscard]] Status make_partial();

  std::filesystem::path out_;
  std::filesystem::path partial_;                    // empty: nothing to remove
  UniqueFd lock_;                                    // held as long as this process is at it
  std::vector<std::filesystem::path> made_parents_;  // outermost first
};

}  // namespace paceline

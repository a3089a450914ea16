#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "paceline/base/fd.hpp"

namespace paceline {

/// FOLDER/worker-<number>.jsonl, which becomes worker-<number>.old.jsonl when it has grown large, and is
/// begun anew. One thread, which a filesystem that hangs may keep for as long as it likes.
class TelemetryFile {
 public:
  TelemetryFile(std::string folder, std::int64_t worker, std::int64_t most_bytes);

  /// Opens the file where it is not, and first makes room where it has grown large. True: what is written
  /// next is the first of a file, or follows on what another process or a failure has left. An error leaves
  /// it closed, so that the next call tries anew.
  [[nodiscard]] Result<bool> prepare();
  /// Appends whole lines to a file that is prepared. After an error a part of them may be there.
  [[nodiscard]] Status write(std::string_view lines);

 private:
  [[nodiscard]] Status open();

  std::string folder_;
  std::string path_;
  std::string old_path_;
  std::int64_t most_bytes_;
  std::int64_t bytes_ = 0;
  UniqueFd file_;
};

}  // namespace paceline

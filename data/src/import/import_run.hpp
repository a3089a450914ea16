#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "paceline/base/clock.hpp"
#include "paceline/base/result.hpp"
#include "paceline/data/import.hpp"
#include "shard_writer.hpp"

namespace paceline {

/// One import in progress: what all its steps and threads share. Every member may be called from any thread.
class ImportRun {
 public:
  explicit ImportRun(const ImportOptions& options);

  [[nodiscard]] const ImportOptions& options() const noexcept { return options_; }
  [[nodiscard]] const SpaceReport& report() const noexcept { return report_; }
  /// Before the first write: what to say of a full disk.
  void set_needed_bytes(std::int64_t bytes) { report_.needed_bytes = bytes; }
  [[nodiscard]] int threads() const noexcept { return threads_; }

  /// aborted once the user, or another thread's failure, wants the import to end.
  [[nodiscard]] Status check_cancelled();
  /// Runs `work` on threads() threads, or as many as can be started, and waits for all of them; the first
  /// failure, which ends the others.
  [[nodiscard]] Status run_threads(const std::function<Status()>& work);

  /// A stage of `total` begins.
  void begin(const std::string& what, std::int64_t total, bool in_bytes);
  void advance(std::int64_t more);
  void warn(const std::string& sentence);

  /// How many source files there are, for judging how many of them may be bad.
  void set_files(std::int64_t files) { files_ = files; }
  /// A file that can't be used, which `error` names. Fails when strict, or when one in twenty was bad.
  [[nodiscard]] Status skip(const Error& error);
  /// At the end: says how many were left out, where that is news.
  void tell_skipped();

 private:
  void tell_progress(bool now);

  const ImportOptions& options_;
  SpaceReport report_;
  int threads_;

  std::mutex mutex_;
  Status failed_;         // the first failure of a thread
  bool stopped_ = false;  // it or the user's wish
  bool cancelled_ = false;
  ImportProgress progress_;
  Instant told_{};
  std::int64_t files_ = 0;
  std::int64_t skipped_ = 0;
};

}  // namespace paceline

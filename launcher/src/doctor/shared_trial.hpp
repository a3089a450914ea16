#pragma once

#include <string>

#include "doctor/child.hpp"

namespace paceline::doctor {

/// A folder in a shared one in which several machines try things. A child keeps it, with a file in it and a
/// lock on another, and removes it with all that is in it when this ends, or this process.
class SharedTrial {
 public:
  [[nodiscard]] static Result<SharedTrial> start(const std::string& folder, StopSignals& signals);
  SharedTrial(SharedTrial&&) noexcept = default;
  SharedTrial& operator=(SharedTrial&&) = delete;
  ~SharedTrial();

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// A file, and what is in it.
  [[nodiscard]] std::string marker() const { return path_ + "/marker"; }
  [[nodiscard]] const std::string& mark() const noexcept { return path_; }
  [[nodiscard]] std::string lock() const { return path_ + "/lock"; }
  [[nodiscard]] bool is_locked() const noexcept { return is_locked_; }

 private:
  SharedTrial(Child keeper, std::string path, bool is_locked)
      : keeper_(std::move(keeper)), path_(std::move(path)), is_locked_(is_locked) {}

  Child keeper_;
  std::string path_;
  bool is_locked_;
};

}  // namespace paceline::doctor

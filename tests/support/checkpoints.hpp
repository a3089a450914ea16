#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "paceline/base/text.hpp"
#include "paceline/job/checkpoint.hpp"
#include "support/temporary_folder.hpp"

/// What tests make checkpoints of, and what they ask about them afterwards.
namespace paceline::checkpoint_testing {

namespace fs = std::filesystem;

class RunDirectory {
 public:
  [[nodiscard]] const std::string& path() const { return folder_.path(); }
  [[nodiscard]] std::string in(const std::string& name) const {
    return concat(path(), "/checkpoints/", name);
  }
  /// What RUN/checkpoints holds.
  [[nodiscard]] std::set<std::string> names() const {
    std::set<std::string> names;
    if (!fs::exists(path() + "/checkpoints")) return names;
    for (const auto& entry : fs::directory_iterator(path() + "/checkpoints"))
      names.insert(entry.path().filename().string());
    return names;
  }

 private:
  TemporaryFolder folder_;
};

using Sizes = std::vector<std::int64_t>;

/// A state whose byte at place `i` of the whole is known in closed form.
class State {
 public:
  State(const Sizes& sizes, std::int64_t seed) {
    std::uint64_t at = 0;
    for (const std::int64_t size : sizes) {
      std::vector<std::byte>& entry = entries_.emplace_back(static_cast<std::size_t>(size));
      for (std::byte& byte : entry) byte = byte_at(at++, seed);
      layout_.push_back({concat("entry.", layout_.size()), size});
    }
  }
  static std::byte byte_at(std::uint64_t i, std::int64_t seed) {
    return static_cast<std::byte>((i * 31 + (i >> 12) * 7 + static_cast<std::uint64_t>(seed) * 13) & 0xff);
  }
  [[nodiscard]] std::vector<std::span<const std::byte>> view() const {
    return {entries_.begin(), entries_.end()};
  }
  [[nodiscard]] std::vector<std::span<std::byte>> place() { return {entries_.begin(), entries_.end()}; }
  [[nodiscard]] const std::vector<CheckpointEntry>& layout() const { return layout_; }
  friend bool operator==(const State& a, const State& b) { return a.entries_ == b.entries_; }

 private:
  std::vector<std::vector<std::byte>> entries_;
  std::vector<CheckpointEntry> layout_;
};

inline const Sizes small_sizes = {5, 0, 12'000, 4096, 3};

template <class T>
void expect_ok(const Result<T>& result) {
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.error().message);
}

template <class T>
std::string message_of(const Result<T>& result) {
  return result.ok() ? "" : result.error().message;
}

inline void expect_part(const std::string& whole, const std::string& part) {
  EXPECT_NE(whole.find(part), std::string::npos) << whole << "\n  should contain: " << part;
}

/// All ranks' parts, and the manifest that they make.
inline CheckpointManifest write_parts(const std::string& run_dir, const CheckpointId& id, std::int64_t ranks,
                                      const State& state) {
  CheckpointManifest manifest{id, "0x00000000000000aa", {}, state.layout(), {}};
  manifest.scalars["epoch"] = std::int64_t{3};
  manifest.scalars["loss_scale"] = 1024.5;
  manifest.scalars["name"] = "small";
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const auto view = state.view();
    auto part = write_checkpoint_part(run_dir, id, rank, ranks, view);
    expect_ok(part);
    if (part.ok()) manifest.parts.push_back(*part);
  }
  return manifest;
}

inline void make_checkpoint(const std::string& run_dir, const CheckpointId& id, std::int64_t ranks = 2,
                            const Sizes& sizes = small_sizes) {
  expect_ok(publish_checkpoint(run_dir, write_parts(run_dir, id, ranks, State(sizes, id.step))));
}

inline void flip(const std::string& path, std::int64_t at) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(at);
  const auto byte = static_cast<char>(file.get() ^ 0x10);
  file.seekp(at);
  file.put(byte);
}

struct Newest {
  std::int64_t step = -1;  ///< none
  std::vector<std::string> passed_over;
  std::string error;
};

inline Newest newest_of(const std::string& run_dir) {
  Newest newest;
  const Result<Checkpoint> checkpoint = open_newest_checkpoint(run_dir, newest.passed_over);
  newest.error = message_of(checkpoint);
  if (checkpoint.ok()) newest.step = checkpoint->manifest.id.step;
  return newest;
}

}  // namespace paceline::checkpoint_testing

#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "paceline/base/hash.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

struct ListedFile {
  std::string path;
  std::int64_t bytes = 0;
};

/// True for a link to one, too.
[[nodiscard]] bool is_folder(const std::string& path);

/// All regular files below a folder, or the file itself, sorted by path. Links are followed, each folder
/// once. Names that begin with a dot are left out: they are other programs' notes.
[[nodiscard]] Result<std::vector<ListedFile>> list_files(const std::string& path);

/// The names of the folders in a folder, sorted; hidden ones left out.
[[nodiscard]] Result<std::vector<std::string>> list_folders(const std::string& path);

/// Shuffles by a fixed seed: the same list gives the same order everywhere.
template <class T>
void shuffle_always_alike(std::vector<T>& items) {
  SplitMix64 random(0x5eed);
  for (std::size_t left = items.size(); left > 1; --left)
    std::swap(items[left - 1], items[static_cast<std::size_t>(random.below(left))]);
}

}  // namespace paceline

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "checkpoint_files.hpp"
#include "paceline/base/text.hpp"

// Whatever is removed first gets a name that is no checkpoint's and no attempt's: a removal that is torn off
// leaves nothing that could be taken for one, and whoever still writes by the old path writes to nowhere.

namespace paceline {
namespace {

namespace fs = std::filesystem;

Status remove_tree(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  // Someone else may be removing the same.
  if (!error || error == std::errc::no_such_file_or_directory) return {};
  return system_error(concat("cannot remove ", shown(path.string())), error.value());
}

Status remove_folder(const std::string& run_dir, const CheckpointFolder& folder) {
  const fs::path all = checkpoints_folder(run_dir);
  if (folder.kind == CheckpointFolder::Kind::removed) return remove_tree(all / folder.name);
  const bool hidden = folder.kind == CheckpointFolder::Kind::unfinished;
  const fs::path from = all / folder.name;
  const fs::path aside = all / concat(".removing-", folder.name.substr(hidden ? 1 : 0));
  if (::rename(from.c_str(), aside.c_str()) == 0) return remove_tree(aside);
  if (errno == ENOENT) return {};  // published, or removed by someone else
  return system_error(concat("cannot rename ", shown(from.string()), " to ", shown(aside.string())));
}

/// Published, of this step or a later one, and of no earlier term.
bool supersedes(const CheckpointFolder& folder, const CheckpointId& attempt) {
  return folder.kind == CheckpointFolder::Kind::published && folder.id.term >= attempt.term &&
         folder.id.step >= attempt.step;
}

bool is_abandoned(const CheckpointFolder& attempt, const std::vector<CheckpointFolder>& folders,
                  std::int64_t generation) {
  return std::ranges::any_of(folders, [&](const CheckpointFolder& other) {
    const bool newer_term = other.kind != CheckpointFolder::Kind::removed && other.id.term > attempt.id.term;
    return (newer_term && attempt.id.generation != generation) || supersedes(other, attempt.id);
  });
}

}  // namespace

Status abandon_checkpoint(const std::string& run_dir, const CheckpointId& id) {
  return remove_folder(run_dir, {CheckpointFolder::Kind::unfinished, unfinished_name(id), id});
}

Status keep_checkpoints(const std::string& run_dir, std::int64_t newest, std::int64_t generation) {
  if (newest < 1)
    return Error{ErrorCode::invalid_argument,
                 concat("at least 1 checkpoint is kept, and ", newest, " were asked for")};
  // Attempts are looked for before checkpoints: one that is published meanwhile is then seen once or twice,
  // and never as neither.
  PACELINE_ASSIGN(const std::vector<CheckpointFolder> folders, find_checkpoint_folders(run_dir));
  PACELINE_ASSIGN(const std::vector<CheckpointListing> published, list_checkpoints(run_dir));
  std::vector<CheckpointFolder> doomed;
  for (const CheckpointFolder& folder : folders) {
    const bool unfinished = folder.kind == CheckpointFolder::Kind::unfinished;
    if (folder.kind == CheckpointFolder::Kind::removed ||
        (unfinished && is_abandoned(folder, folders, generation)))
      doomed.push_back(folder);
  }
  std::int64_t whole = 0;
  for (const CheckpointListing& listing : published) {
    const CheckpointId id{listing.step, listing.term, 0};
    if (whole >= newest) doomed.push_back({CheckpointFolder::Kind::published, published_name(id), id});
    if (listing.problem.empty()) ++whole;
  }
  Status status;
  for (const CheckpointFolder& folder : doomed)
    if (Status removed = remove_folder(run_dir, folder); status.ok() && !removed.ok()) status = removed;
  return status;
}

}  // namespace paceline

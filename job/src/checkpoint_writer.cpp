#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "checkpoint_files.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

// The order of the system calls here is what docs/checkpoints.md argues from: every file is synced before it
// is named, every name is synced before the next depends on it, and the name that makes a checkpoint comes
// last. Everything goes by path, never by an open folder: a path stops leading anywhere once the attempt was
// published or taken away, and that is what keeps late writers out.

namespace paceline {
namespace {

Status make_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0777) == 0 || errno == EEXIST) return {};
  return system_error(concat("cannot create ", shown(path)));
}

/// Syncs and closes: a network filesystem may tell of a full disk only there.
Status finish_file(UniqueFd& fd, const std::string& path) {
  if (::fsync(fd.get()) != 0) return system_error(concat("cannot sync ", shown(path)));
  if (::close(fd.release()) != 0) return system_error(concat("cannot close ", shown(path)));
  return {};
}

/// Makes the attempt's folder and this rank's file in it.
Result<UniqueFd> create_part(const std::string& run_dir, const std::string& folder, const std::string& path) {
  // Another rank that fails removes the folder where it finds it empty, perhaps just before this one's file.
  for (int tries = 0;; ++tries) {
    PACELINE_TRY(make_folder(checkpoints_folder(run_dir)));
    PACELINE_TRY(make_folder(folder));
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    if (fd.valid()) return fd;
    if (errno == ENOENT && tries < 10) continue;
    if (errno == EEXIST)
      return Error{ErrorCode::already_exists,
                   concat(shown(path), " was written before: an attempt at a checkpoint is made once")};
    return system_error(concat("cannot create ", shown(path)));
  }
}

/// Leaves no half-written file, nor the folder of an attempt that nobody else wrote to.
void remove_part(const std::string& folder, const std::string& path) {
  ::unlink(path.c_str());
  ::rmdir(folder.c_str());
}

Status write_blocks(const UniqueFd& fd, const std::string& path,
                    std::span<const std::span<const std::byte>> state, const KeepGoing& keep_going,
                    CheckpointPart& part) {
  const auto may_go_on = [&]() -> Status {
    if (!keep_going || keep_going()) return {};
    return Error{ErrorCode::aborted, concat("the writing of ", shown(path), " was given up")};
  };
  ByteWalk walk(state);
  walk.skip(static_cast<std::size_t>(part.slice.offset));
  std::vector<std::byte> gathered;  // a block that lies in several places
  for (std::int64_t done = 0; done < part.slice.bytes; done += checkpoint_block_bytes) {
    PACELINE_TRY(may_go_on());
    const std::int64_t bytes = std::min(checkpoint_block_bytes, part.slice.bytes - done);
    std::span<const std::byte> block;
    gathered.clear();
    walk.take(static_cast<std::size_t>(bytes), [&](std::span<const std::byte> piece) {
      if (std::ssize(piece) == bytes)
        block = piece;
      else
        gathered.insert(gathered.end(), piece.begin(), piece.end());
    });
    if (block.empty()) block = gathered;
    part.checksums.push_back(block_checksum(block));
    PACELINE_TRY(
        write_all(fd.get(), {reinterpret_cast<const char*>(block.data()), block.size()}, shown(path)));
    // Lets the storage begin, so that the sync at the end is short; a hint, whose failure says nothing.
    ::sync_file_range(fd.get(), done, bytes, SYNC_FILE_RANGE_WRITE);
  }
  return may_go_on();
}

/// mismatch where anything of a newer term is there.
Status check_in_charge(const std::string& run_dir, const CheckpointId& id) {
  PACELINE_ASSIGN(const auto folders, find_checkpoint_folders(run_dir));
  for (const CheckpointFolder& folder : folders) {
    if (folder.kind == CheckpointFolder::Kind::removed || folder.id.term <= id.term) continue;
    return Error{ErrorCode::mismatch, concat("the checkpoint of step ", id.step, " is not published: ",
                                             shown(checkpoints_folder(run_dir)), " has ", folder.name,
                                             " of a newer term, and this coordinator has term ", id.term,
                                             ": another one has taken the run over")};
  }
  return {};
}

Error taken(const std::string& final_folder) {
  return {ErrorCode::already_exists, concat("there is a checkpoint ", shown(final_folder), " already")};
}

/// Writes the manifest beside its name first, so that the name never stands for a part of it.
Status place_manifest(const std::string& folder, const std::string& text) {
  static std::atomic<unsigned> count = 0;  // for two threads of one process
  const std::string partial = concat(folder, "/.manifest-", ::getpid(), "-", ++count);
  const std::string path = concat(folder, "/", checkpoint_manifest_file);
  UniqueFd fd(::open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd.valid()) return system_error(concat("cannot create ", shown(partial)));
  Status placed = write_all(fd.get(), text, shown(partial));
  if (placed.ok()) placed = finish_file(fd, partial);
  if (placed.ok() && ::rename(partial.c_str(), path.c_str()) != 0)
    placed = system_error(concat("cannot rename ", shown(partial), " to ", shown(path)));
  if (!placed.ok()) ::unlink(partial.c_str());
  return placed;
}

Status take_final_name(const std::string& unfinished, const std::string& final_folder) {
  if (::rename(unfinished.c_str(), final_folder.c_str()) == 0) return {};
  if (errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR) return taken(final_folder);
  return system_error(concat("cannot rename ", shown(unfinished), " to ", shown(final_folder)));
}

}  // namespace

Result<CheckpointPart> write_checkpoint_part(const std::string& run_dir, const CheckpointId& id,
                                             std::int64_t rank, std::int64_t ranks,
                                             std::span<const std::span<const std::byte>> state,
                                             const KeepGoing& keep_going) {
  PACELINE_ASSERT(id.step >= 0 && id.term >= 0 && id.generation >= 0, "an attempt's numbers count from 0");
  CheckpointPart part{rank, ranks, checkpoint_slice(bytes_in(state), rank, ranks), {}};
  const std::string folder = concat(checkpoints_folder(run_dir), "/", unfinished_name(id));
  const std::string path = concat(folder, "/", part_file_name(rank, ranks));
  Result<UniqueFd> fd = create_part(run_dir, folder, path);
  if (!fd.ok()) {
    if (fd.error().code == ErrorCode::io) ::rmdir(folder.c_str());  // fails where another rank uses it
    return std::move(fd).error();
  }
  Status written = write_blocks(*fd, path, state, keep_going, part);
  if (written.ok()) written = finish_file(*fd, path);
  if (written.ok()) return part;
  remove_part(folder, path);
  return std::move(written).error();
}

Status publish_checkpoint(const std::string& run_dir, const CheckpointManifest& manifest,
                          const CheckpointId& attempt) {
  PACELINE_ASSERT(attempt.step == manifest.id.step && attempt.term <= manifest.id.term &&
                      attempt.generation == manifest.id.generation,
                  "a checkpoint is what an attempt of this step and generation has written");
  PACELINE_ASSIGN(const std::string text, render_checkpoint_manifest(manifest));
  const std::string all = checkpoints_folder(run_dir);
  const std::string unfinished = concat(all, "/", unfinished_name(attempt));
  const std::string final_folder = concat(all, "/", published_name(manifest.id));
  PACELINE_TRY(check_in_charge(run_dir, manifest.id));
  struct stat there {};
  if (::lstat(final_folder.c_str(), &there) == 0) return taken(final_folder);
  const auto given_up_or = [&](Status status) -> Status {
    // Whoever published or removed the attempt while this was at it took the path away.
    if (status.ok() || ::lstat(unfinished.c_str(), &there) == 0 || errno != ENOENT) return status;
    if (::lstat(final_folder.c_str(), &there) == 0) return taken(final_folder);
    return Error{ErrorCode::not_found,
                 concat("the checkpoint of step ", manifest.id.step, " is not published: its attempt ",
                        shown(unfinished), " is not there, or was given up")};
  };
  PACELINE_TRY(given_up_or(check_part_sizes(unfinished, manifest)));
  PACELINE_TRY(given_up_or(place_manifest(unfinished, text)));
  PACELINE_TRY(given_up_or(sync_folder(unfinished)));
  PACELINE_TRY(given_up_or(take_final_name(unfinished, final_folder)));
  PACELINE_TRY(sync_folder(all));
  return sync_folder(run_dir);
}

Status publish_checkpoint(const std::string& run_dir, const CheckpointManifest& manifest) {
  return publish_checkpoint(run_dir, manifest, manifest.id);
}

}  // namespace paceline

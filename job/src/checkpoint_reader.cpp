#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "checkpoint_files.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "paceline/job/journal.hpp"

namespace paceline {
namespace {

/// The blocks of the parts, one after the other. Each is verified before it is shown.
class BlockReader {
 public:
  explicit BlockReader(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  /// Calls `with` for the bytes of `range`, in order, a block or a part of one at a time.
  template <class With>
  Status read(const CheckpointSlice& range, With with) {
    for (const CheckpointPart& part : checkpoint_.manifest.parts) {
      const std::int64_t begin = std::max(range.offset, part.slice.offset) - part.slice.offset;
      const std::int64_t end =
          std::min(range.offset + range.bytes, part.slice.offset + part.slice.bytes) - part.slice.offset;
      if (begin >= end) continue;
      PACELINE_TRY(open(part));
      for (std::int64_t at = begin; at < end;) {
        const std::int64_t block = at / checkpoint_block_bytes;
        const std::int64_t block_begin = block * checkpoint_block_bytes;
        PACELINE_TRY(read_block(part, block));
        const std::int64_t until = std::min(end, block_begin + static_cast<std::int64_t>(block_.size()));
        with(std::span<const std::byte>(block_).subspan(static_cast<std::size_t>(at - block_begin),
                                                        static_cast<std::size_t>(until - at)));
        at = until;
      }
    }
    return {};
  }

 private:
  Status open(const CheckpointPart& part) {
    path_ = concat(checkpoint_.folder, "/", part_file_name(part.rank, part.ranks));
    fd_.reset(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd_.valid()) return {};
    Error error = system_error(concat("cannot open ", shown(path_)));
    if (errno == ENOENT) error.code = ErrorCode::not_found;
    return error;
  }

  Status read_block(const CheckpointPart& part, std::int64_t block) {
    const std::int64_t begin = block * checkpoint_block_bytes;
    const std::int64_t bytes = std::min(checkpoint_block_bytes, part.slice.bytes - begin);
    block_.resize(static_cast<std::size_t>(bytes));
    for (std::int64_t done = 0; done < bytes;) {
      const ssize_t got =
          ::pread(fd_.get(), block_.data() + done, static_cast<std::size_t>(bytes - done), begin + done);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return system_error(concat("cannot read ", shown(path_), " at byte ", begin + done));
      if (got == 0)
        return Error{ErrorCode::corrupt, concat(shown(path_), " ends at byte ", begin + done,
                                                ", and the manifest says ", part.slice.bytes)};
      done += got;
    }
    const std::uint64_t stated = part.checksums[static_cast<std::size_t>(block)];
    const std::uint64_t actual = block_checksum(block_);
    if (actual == stated) return {};
    return Error{ErrorCode::corrupt,
                 concat(shown(path_), ": block ", block, " (", bytes, " bytes from byte ", begin,
                        ") has the checksum ", hex_word(actual), ", and the manifest says ", hex_word(stated),
                        ": the file was changed or damaged")};
  }

  const Checkpoint& checkpoint_;
  std::string path_;
  UniqueFd fd_;
  std::vector<std::byte> block_;
};

/// A published folder whose manifest says what its name says.
Result<Checkpoint> open_published(const std::string& run_dir, const CheckpointId& id) {
  PACELINE_ASSIGN(Checkpoint checkpoint,
                  open_checkpoint(concat(checkpoints_folder(run_dir), "/", published_name(id))));
  const CheckpointId& stated = checkpoint.manifest.id;
  if (stated.step == id.step && stated.term == id.term) return checkpoint;
  return Error{ErrorCode::corrupt,
               concat(shown(checkpoint.folder), " holds the checkpoint of step ", stated.step, " and term ",
                      stated.term, ": the folder was renamed")};
}

Result<std::vector<CheckpointId>> published_newest_first(const std::string& run_dir) {
  PACELINE_ASSIGN(const std::vector<CheckpointFolder> folders, find_checkpoint_folders(run_dir));
  std::vector<CheckpointId> ids;
  for (const CheckpointFolder& folder : folders)
    if (folder.kind == CheckpointFolder::Kind::published) ids.push_back(folder.id);
  std::ranges::sort(ids, is_newer);
  return ids;
}

Result<Checkpoint> open_and_verify(const std::string& run_dir, const CheckpointId& id) {
  PACELINE_ASSIGN(Checkpoint checkpoint, open_published(run_dir, id));
  PACELINE_TRY(verify_checkpoint(checkpoint));
  return checkpoint;
}

}  // namespace

Result<Checkpoint> open_checkpoint(const std::string& folder) {
  const std::string path = concat(folder, "/", checkpoint_manifest_file);
  PACELINE_ASSIGN(const std::string text, read_file(path, most_manifest_bytes));
  PACELINE_ASSIGN(CheckpointManifest manifest, parse_checkpoint_manifest(text, shown(path)));
  PACELINE_TRY(check_part_sizes(folder, manifest));
  return Checkpoint{folder, std::move(manifest)};
}

Result<std::vector<CheckpointListing>> list_checkpoints(const std::string& run_dir) {
  PACELINE_ASSIGN(const std::vector<CheckpointId> ids, published_newest_first(run_dir));
  std::vector<CheckpointListing> listings;
  for (const CheckpointId& id : ids) {
    CheckpointListing listing{concat(checkpoints_folder(run_dir), "/", published_name(id)), id.step, id.term,
                              0, ""};
    const Result<Checkpoint> checkpoint = open_published(run_dir, id);
    if (checkpoint.ok())
      listing.bytes = state_bytes(checkpoint->manifest);
    else
      listing.problem = checkpoint.error().message;
    listings.push_back(std::move(listing));
  }
  return listings;
}

Result<Checkpoint> open_newest_checkpoint(const std::string& run_dir, std::vector<std::string>& passed_over,
                                          const CheckpointCounts& counts) {
  PACELINE_ASSIGN(std::vector<CheckpointId> ids, published_newest_first(run_dir));
  if (counts) std::erase_if(ids, [&counts](const CheckpointId& id) { return !counts(id.term, id.step); });
  for (const CheckpointId& id : ids) {
    Result<Checkpoint> checkpoint = open_and_verify(run_dir, id);
    if (checkpoint.ok() || checkpoint.error().code == ErrorCode::unsupported) return checkpoint;
    passed_over.push_back(checkpoint.error().message);
  }
  const std::string where = shown(checkpoints_folder(run_dir));
  if (ids.empty()) return Error{ErrorCode::not_found, concat(where, " holds no checkpoint")};
  return Error{ErrorCode::not_found, concat(where, " holds no checkpoint that is whole: ", ids.size(),
                                            ids.size() == 1 ? " is damaged" : " are damaged")};
}

Status verify_checkpoint(const Checkpoint& checkpoint) {
  return BlockReader(checkpoint).read({0, state_bytes(checkpoint.manifest)}, [](std::span<const std::byte>) {
  });
}

Status read_state(const Checkpoint& checkpoint, std::span<const std::span<std::byte>> into) {
  const std::vector<CheckpointEntry>& layout = checkpoint.manifest.layout;
  if (into.size() != layout.size())
    return Error{ErrorCode::mismatch, concat(shown(checkpoint.folder), " holds ", layout.size(),
                                             " entries, and this job's state has ", into.size())};
  for (std::size_t i = 0; i < layout.size(); ++i)
    if (static_cast<std::int64_t>(into[i].size()) != layout[i].bytes)
      return Error{ErrorCode::mismatch,
                   concat(shown(checkpoint.folder), ": its entry ", shown(layout[i].name), " has ",
                          layout[i].bytes, " bytes, and in this job's state it has ", into[i].size())};
  return read_state(checkpoint, {0, state_bytes(checkpoint.manifest)}, into);
}

Status read_state(const Checkpoint& checkpoint, const CheckpointSlice& range,
                  std::span<const std::span<std::byte>> into) {
  const std::int64_t all = state_bytes(checkpoint.manifest);
  if (range.offset < 0 || range.offset > all || range.bytes < 0 || range.bytes > all - range.offset)
    return Error{ErrorCode::invalid_argument,
                 concat(shown(checkpoint.folder), " holds a state of ", all, " bytes, and ", range.bytes,
                        " from byte ", range.offset, " were asked for")};
  PACELINE_ASSERT(bytes_in(into) == range.bytes, "the spans have the size of the range");
  ByteWalk walk(into);
  return BlockReader(checkpoint).read(range, [&](std::span<const std::byte> bytes) {
    walk.take(bytes.size(), [&](std::span<std::byte> piece) {
      std::memcpy(piece.data(), bytes.data(), piece.size());
      bytes = bytes.subspan(piece.size());
    });
  });
}

}  // namespace paceline

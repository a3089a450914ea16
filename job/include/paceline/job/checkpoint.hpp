#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

// RUN/checkpoints: the training state as it was after a step, written by all ranks together;
// docs/checkpoints.md specifies it, and says why no crash and no second coordinator spoils one.
//
//   ranks        write_checkpoint_part    each its slice, into a hidden folder of that attempt
//   coordinator  publish_checkpoint       when all parts were reported: from then on it exists
//                abandon_checkpoint       where a rank failed or was lost
//                keep_checkpoints         removes what is too old
//   who resumes  open_newest_checkpoint, and each rank read_state

inline constexpr std::int64_t checkpoint_version = 1;
/// Each block of a part has a checksum of its own; also the most that is written or read at once.
inline constexpr std::int64_t checkpoint_block_bytes = std::int64_t{4} << 20;

/// One attempt at a checkpoint. A run makes each at most once: an attempt that failed is not repeated,
/// the next one is of a later step.
struct CheckpointId {
  std::int64_t step = 0;        ///< steps that the state has applied
  std::int64_t term = 0;        ///< of the coordinator
  std::int64_t generation = 0;  ///< of the ranks that write it
  friend bool operator==(const CheckpointId&, const CheckpointId&) = default;
};

/// One thing of the state; its bytes follow those of the entry before.
struct CheckpointEntry {
  std::string name;        ///< plain UTF-8 of 1 to 1024 bytes, used once
  std::int64_t bytes = 0;  ///< may be 0
  friend bool operator==(const CheckpointEntry&, const CheckpointEntry&) = default;
};

/// A contiguous range of the state's bytes.
struct CheckpointSlice {
  std::int64_t offset = 0;
  std::int64_t bytes = 0;
  friend bool operator==(const CheckpointSlice&, const CheckpointSlice&) = default;
};

/// What a rank reports of the slice that it wrote.
struct CheckpointPart {
  std::int64_t rank = 0;
  std::int64_t ranks = 0;  ///< that write this checkpoint
  CheckpointSlice slice;
  std::vector<std::uint64_t> checksums;  ///< XXH3-64 of each block; only the last is shorter
  friend bool operator==(const CheckpointPart&, const CheckpointPart&) = default;
};

/// Named figures of the run's own; doubles are finite, strings are plain UTF-8.
using CheckpointValue = std::variant<std::int64_t, double, std::string>;
using CheckpointValues = std::map<std::string, CheckpointValue>;

struct CheckpointManifest {
  CheckpointId id;
  std::string job_fingerprint;  ///< of the job that the state belongs to; plain UTF-8
  CheckpointValues scalars;     ///< an open set
  std::vector<CheckpointEntry> layout;
  std::vector<CheckpointPart> parts;  ///< by rank; their slices tile the state
};

/// A published checkpoint, whose manifest was checked and whose parts have the sizes that it says.
struct Checkpoint {
  std::string folder;
  CheckpointManifest manifest;
};

/// A published checkpoint as far as one can tell without reading its parts.
struct CheckpointListing {
  std::string folder;
  std::int64_t step = 0;
  std::int64_t term = 0;
  std::int64_t bytes = 0;  ///< of the state; 0 where `problem` says that it can't be known
  std::string problem;     ///< why it can't be used, in one sentence; empty: nothing is known against it
};

/// The slice of rank `rank` of `ranks`; begins at a multiple of 4096 bytes, may be empty.
[[nodiscard]] CheckpointSlice checkpoint_slice(std::int64_t state_bytes, std::int64_t rank,
                                               std::int64_t ranks);
/// Bytes of all entries together.
[[nodiscard]] std::int64_t state_bytes(const CheckpointManifest& manifest);

// Writing.

/// Asked before each block and before the sync, and may sleep there; false gives the part up.
using KeepGoing = std::function<bool()>;

/// Writes and syncs this rank's slice of `state`: the bytes of all entries, in the layout's order, which must
/// not change meanwhile and are the same on all ranks. Blocks for as long as the storage does. After an
/// error no file of this rank is left. aborted where `keep_going` said so, already_exists where this rank
/// wrote this attempt before.
[[nodiscard]] Result<CheckpointPart> write_checkpoint_part(const std::string& run_dir, const CheckpointId& id,
                                                           std::int64_t rank, std::int64_t ranks,
                                                           std::span<const std::span<const std::byte>> state,
                                                           const KeepGoing& keep_going = {});

/// Makes the attempt `manifest.id`, of which all parts were reported, a checkpoint. Durable when it returns
/// well. After an error it does not exist, unless the error is already_exists (someone published one of
/// this step and term: the same state, so mostly all is well) or says that the last sync failed. mismatch
/// where a newer term has been at work: this coordinator is not in charge any more, and should exit.
[[nodiscard]] Status publish_checkpoint(const std::string& run_dir, const CheckpointManifest& manifest);
/// The same where the ranks' generation, and with it their attempt, is of an earlier term than this
/// coordinator, whose term the checkpoint gets.
[[nodiscard]] Status publish_checkpoint(const std::string& run_dir, const CheckpointManifest& manifest,
                                        const CheckpointId& attempt);

/// Removes what was written of an attempt that will not be published. Ranks that still write to it get an
/// error or write to nowhere.
[[nodiscard]] Status abandon_checkpoint(const std::string& run_dir, const CheckpointId& id);

/// Removes checkpoints older than the `newest` (>= 1) newest without a known problem, and attempts that were
/// abandoned: of older terms, or of this term where one of the same step or a later one was published; those
/// of `generation`, whose ranks go on under a coordinator of a newer term, only where one of the same step or
/// a later one was published. Goes on after an error, and returns the first.
[[nodiscard]] Status keep_checkpoints(const std::string& run_dir, std::int64_t newest,
                                      std::int64_t generation = 0);

// Reading. Any process, any number at once; whoever reads while keep_checkpoints removes gets an error.

/// Newest first: by term, then by step. Empty where the run has no checkpoints yet.
[[nodiscard]] Result<std::vector<CheckpointListing>> list_checkpoints(const std::string& run_dir);

/// Says whether a checkpoint of this term and step belongs to the history that counts.
using CheckpointCounts = std::function<bool(std::int64_t term, std::int64_t step)>;

/// Reads all of the newest checkpoint, and where it is damaged of the one before, and so on. Each that is
/// passed over for that adds a sentence; those that don't count, where `counts` is given, are as good as not
/// there. not_found where none is left; unsupported where the newest that is left was written by a later
/// version: no silent return to an older state.
[[nodiscard]] Result<Checkpoint> open_newest_checkpoint(const std::string& run_dir,
                                                        std::vector<std::string>& passed_over,
                                                        const CheckpointCounts& counts = {});

/// A checkpoint by its folder. Doesn't read the parts.
[[nodiscard]] Result<Checkpoint> open_checkpoint(const std::string& folder);

/// Reads all parts and compares the checksums; the first that is wrong is the error.
[[nodiscard]] Status verify_checkpoint(const Checkpoint& checkpoint);

/// Reads the state: a span for each entry of the layout, of its size. Every block is verified before any of
/// its bytes are handed out; after an error the contents of `into` are some from before and some from here.
[[nodiscard]] Status read_state(const Checkpoint& checkpoint, std::span<const std::span<std::byte>> into);

/// Reads bytes [offset, offset + bytes) of the state, cut into spans anyhow, so that several can share the
/// reading. Blocks at the edges are read whole to verify them.
[[nodiscard]] Status read_state(const Checkpoint& checkpoint, const CheckpointSlice& range,
                                std::span<const std::span<std::byte>> into);

// The manifest as text.

inline constexpr std::string_view checkpoint_manifest_file = "manifest.json";

/// invalid_argument where the manifest breaks a rule of the format; it says which.
[[nodiscard]] Result<std::string> render_checkpoint_manifest(const CheckpointManifest& manifest);
/// Bytes from anywhere; `name` is the file's, for messages.
[[nodiscard]] Result<CheckpointManifest> parse_checkpoint_manifest(std::string_view text,
                                                                   const std::string& name);

}  // namespace paceline

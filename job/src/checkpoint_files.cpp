#include "checkpoint_files.hpp"

#include <sys/stat.h>
#include <xxhash.h>
// Chooses the widest registers that the processor has. The same values.
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#endif

#include <cerrno>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <tuple>
#include <unordered_set>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::int64_t slice_bytes = 4096;
constexpr std::int64_t most_ranks = 1'000'000;
constexpr std::size_t most_name_bytes = 1024;
constexpr std::size_t most_text_bytes = 65536;
constexpr std::size_t step_digits = 9;
constexpr std::string_view removing_prefix = ".removing-";

/// A whole number as the names have it, taken from the beginning of `text`.
std::optional<std::int64_t> take_number(std::string_view& text) {
  std::int64_t number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code != std::errc() || number < 0 || number > most_checkpoint_number) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

bool take_word(std::string_view& text, std::string_view word) {
  if (!text.starts_with(word)) return false;
  text.remove_prefix(word.size());
  return true;
}

/// The numbers of a name, however they are spelt.
std::optional<CheckpointFolder> read_name(const std::string& name) {
  CheckpointFolder folder{CheckpointFolder::Kind::published, name, {}};
  std::string_view text = name;
  if (take_word(text, ".")) folder.kind = CheckpointFolder::Kind::unfinished;
  if (!take_word(text, "step-")) return std::nullopt;
  const auto step = take_number(text);
  if (!step || !take_word(text, ".term-")) return std::nullopt;
  const auto term = take_number(text);
  if (!term) return std::nullopt;
  folder.id = {*step, *term, 0};
  if (folder.kind == CheckpointFolder::Kind::published) return folder;
  if (!take_word(text, ".gen-")) return std::nullopt;
  const auto generation = take_number(text);
  if (!generation) return std::nullopt;
  folder.id.generation = *generation;
  return folder;
}

bool is_number(std::int64_t number) {
  return number >= 0 && number <= most_checkpoint_number;
}

/// Fit for JSON, and to be shown on a terminal.
bool is_plain(std::string_view text) {
  const auto disturbs = [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; };
  return std::ranges::none_of(text, disturbs) && is_utf8(text);
}

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= most_name_bytes && is_plain(name);
}

bool is_value(const CheckpointValue& value) {
  if (const auto* number = std::get_if<double>(&value)) return std::isfinite(*number);
  const auto* text = std::get_if<std::string>(&value);
  return text == nullptr || (text->size() <= most_text_bytes && is_plain(*text));
}

std::string complaint_about_values(const CheckpointManifest& manifest) {
  if (!is_number(manifest.id.step) || !is_number(manifest.id.term) || !is_number(manifest.id.generation))
    return "its step, term and generation are not whole numbers from 0 to 2^53";
  if (manifest.job_fingerprint.size() > most_text_bytes || !is_plain(manifest.job_fingerprint))
    return "its job_fingerprint is not a plain text";
  for (const auto& [name, value] : manifest.scalars) {
    if (!is_name(name)) return concat("its scalar ", shown(name), " has a name that is not a plain text");
    if (!is_value(value))
      return concat("its scalar ", shown(name), " is neither a finite number nor a plain text");
  }
  return "";
}

std::string complaint_about_layout(const CheckpointManifest& manifest) {
  std::unordered_set<std::string_view> names;
  std::int64_t bytes = 0;
  for (const CheckpointEntry& entry : manifest.layout) {
    if (!is_name(entry.name))
      return concat("its entry ", shown(entry.name), " has a name that is not a plain text");
    if (!names.insert(entry.name).second)
      return concat("two entries of its layout have the name ", shown(entry.name));
    if (!is_number(entry.bytes) || entry.bytes > most_checkpoint_number - bytes)
      return concat("its entry ", shown(entry.name), " makes the state larger than 2^53 bytes, or smaller");
    bytes += entry.bytes;
  }
  return "";
}

std::string complaint_about_part(const CheckpointPart& part, std::int64_t rank, std::int64_t ranks,
                                 const CheckpointSlice& left) {
  const std::string which = concat("its part ", rank);
  if (part.rank != rank || part.ranks != ranks)
    return concat(which, " is that of rank ", part.rank, " of ", part.ranks, ", and there are ", ranks,
                  " parts");
  if (part.slice.offset != left.offset)
    return concat(which, " begins at byte ", part.slice.offset, " of the state, and the one before ends at ",
                  left.offset);
  if (part.slice.bytes < 0 || part.slice.bytes > left.bytes)
    return concat(which, " has ", part.slice.bytes, " bytes, and only ", left.bytes,
                  " of the state are left");
  const auto blocks = static_cast<std::size_t>(blocks_in(part.slice.bytes));
  if (part.checksums.size() != blocks)
    return concat(which, " has ", part.checksums.size(), " checksums for ", blocks, " blocks");
  return "";
}

std::string complaint_about_parts(const CheckpointManifest& manifest) {
  const auto ranks = static_cast<std::int64_t>(manifest.parts.size());
  if (ranks < 1 || ranks > most_ranks) return concat("it has ", ranks, " parts");
  CheckpointSlice left{0, state_bytes(manifest)};
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const CheckpointPart& part = manifest.parts[static_cast<std::size_t>(rank)];
    if (std::string complaint = complaint_about_part(part, rank, ranks, left); !complaint.empty())
      return complaint;
    left.offset += part.slice.bytes;
    left.bytes -= part.slice.bytes;
  }
  if (left.bytes > 0) return concat("its parts leave out the last ", left.bytes, " bytes of the state");
  return "";
}

}  // namespace

std::string checkpoints_folder(const std::string& run_dir) {
  return concat(run_dir, "/checkpoints");
}

std::string published_name(const CheckpointId& id) {
  std::string step = concat(id.step);
  if (step.size() < step_digits) step.insert(0, step_digits - step.size(), '0');
  return concat("step-", step, ".term-", id.term);
}

std::string unfinished_name(const CheckpointId& id) {
  return concat(".", published_name(id), ".gen-", id.generation);
}

std::string part_file_name(std::int64_t rank, std::int64_t ranks) {
  return concat("part-", rank, "-of-", ranks, ".bin");
}

std::optional<CheckpointFolder> parse_checkpoint_folder(const std::string& name) {
  if (name.starts_with(removing_prefix)) return CheckpointFolder{CheckpointFolder::Kind::removed, name, {}};
  std::optional<CheckpointFolder> folder = read_name(name);
  if (!folder) return std::nullopt;
  // One spelling for each: what was not named by a program is none of its business.
  const bool published = folder->kind == CheckpointFolder::Kind::published;
  if (name != (published ? published_name(folder->id) : unfinished_name(folder->id))) return std::nullopt;
  return folder;
}

Result<std::vector<CheckpointFolder>> find_checkpoint_folders(const std::string& run_dir) {
  const std::string path = checkpoints_folder(run_dir);
  std::vector<CheckpointFolder> found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(path, error), end; !error && entry != end;
       entry.increment(error)) {
    if (auto folder = parse_checkpoint_folder(entry->path().filename().string()))
      found.push_back(std::move(*folder));
  }
  if (error && error != std::errc::no_such_file_or_directory)
    return system_error(concat("cannot list ", shown(path)), error.value());
  return found;
}

bool is_newer(const CheckpointId& a, const CheckpointId& b) {
  return std::tie(a.term, a.step) > std::tie(b.term, b.step);
}

CheckpointSlice checkpoint_slice(std::int64_t state_bytes, std::int64_t rank, std::int64_t ranks) {
  PACELINE_ASSERT(ranks > 0 && rank >= 0 && rank < ranks, "a rank is one of the ranks");
  PACELINE_ASSERT(is_number(state_bytes), "a state has a size that a checkpoint can hold");
  const std::int64_t pieces = (state_bytes + slice_bytes - 1) / slice_bytes;
  const auto begin_of = [&](std::int64_t which) {
    const std::int64_t piece = pieces / ranks * which + std::min(which, pieces % ranks);
    return std::min(piece * slice_bytes, state_bytes);
  };
  const std::int64_t begin = begin_of(rank);
  return {begin, begin_of(rank + 1) - begin};
}

std::int64_t state_bytes(const CheckpointManifest& manifest) {
  std::int64_t bytes = 0;
  for (const CheckpointEntry& entry : manifest.layout) bytes += entry.bytes;
  return bytes;
}

std::uint64_t block_checksum(std::span<const std::byte> bytes) noexcept {
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::int64_t blocks_in(std::int64_t bytes) {
  return (bytes + checkpoint_block_bytes - 1) / checkpoint_block_bytes;
}

std::string complaint_about(const CheckpointManifest& manifest) {
  std::string complaint = complaint_about_values(manifest);
  if (complaint.empty()) complaint = complaint_about_layout(manifest);
  if (complaint.empty()) complaint = complaint_about_parts(manifest);
  return complaint;
}

Status check_part_sizes(const std::string& folder, const CheckpointManifest& manifest) {
  for (const CheckpointPart& part : manifest.parts) {
    const std::string path = concat(folder, "/", part_file_name(part.rank, part.ranks));
    struct stat found {};
    if (::stat(path.c_str(), &found) != 0) {
      if (errno == ENOENT) return Error{ErrorCode::not_found, concat(shown(path), " is missing")};
      return system_error(concat("cannot look at ", shown(path)));
    }
    if (!S_ISREG(found.st_mode)) return Error{ErrorCode::corrupt, concat(shown(path), " is not a file")};
    if (found.st_size != part.slice.bytes)
      return Error{ErrorCode::corrupt, concat(shown(path), " has ", found.st_size,
                                              " bytes, and the manifest says ", part.slice.bytes)};
  }
  return {};
}

}  // namespace paceline

#include "checkpoints.hpp"

#include <algorithm>
#include <utility>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

// Of a planned change the ranks of before may still write; of changes further back nobody does.
constexpr std::size_t most_generations = 2;

std::string name_of(const CheckpointId& id) {
  return concat("the checkpoint of step ", id.step);
}

/// The part of a message, if it can be one.
std::optional<CheckpointPart> part_of(const CheckpointMessage& message) {
  std::optional<std::vector<std::uint64_t>> checksums = parse_checksums(message.checksums);
  if (!checksums) return std::nullopt;
  return CheckpointPart{message.rank, message.ranks, {message.offset, message.bytes}, std::move(*checksums)};
}

}  // namespace

CheckpointValues job_scalars(const Job& job) {
  CheckpointValues scalars;
  for (auto& [key, value] : deciding_values(job)) scalars.emplace(concat("job.", key), value);
  return scalars;
}

std::optional<std::vector<std::uint64_t>> parse_checksums(const std::string& digits) {
  constexpr std::size_t each = 16;
  if (digits.size() % each != 0) return std::nullopt;
  std::vector<std::uint64_t> checksums;
  for (std::size_t at = 0; at < digits.size(); at += each) {
    const std::optional<std::uint64_t> word = parse_hex_word(concat("0x", digits.substr(at, each)));
    if (!word) return std::nullopt;
    checksums.push_back(*word);
  }
  return checksums;
}

CheckpointKeeper::CheckpointKeeper(std::string run_dir, const Job& job, RunRecord& record, Warn warn)
    : run_dir_(std::move(run_dir)),
      keep_(job.checkpoint.keep),
      fingerprint_(job_fingerprint(job)),
      scalars_(job_scalars(job)),
      record_(record),
      warn_(std::move(warn)) {
  scalars_["journal_key"] = hex_word(record.key());
}

void CheckpointKeeper::on_generation(const GenerationRecord& record) {
  Ranks& ranks = generations_[record.generation];
  ranks.term = record.term;
  for (const GenerationMember& member : record.members) ranks.workers.push_back(member.worker);
  if (generations_.size() > most_generations) generations_.erase(generations_.begin());
}

Status CheckpointKeeper::on_part(WorkerId worker, const CheckpointMessage& message) {
  const auto known = generations_.find(message.generation);
  if (known == generations_.end()) return {};  // whoever wrote it could not know
  const Ranks& ranks = known->second;
  const auto place = static_cast<std::size_t>(message.rank);
  if (message.ranks != std::ssize(ranks.workers) || message.rank >= message.ranks ||
      ranks.workers[place] != worker) {
    warn_(concat("worker ", worker, " reported a checkpoint as rank ", message.rank, " of ", message.ranks,
                 ", which it is not in generation ", message.generation));
    return {};
  }
  const CheckpointId id{message.step, ranks.term, message.generation};
  if (!take_up(id, ranks)) return {};
  if (!message.error.empty()) {
    give_up(concat("rank ", message.rank, " could not write its part: ", message.error));
    return {};
  }
  std::optional<CheckpointPart> part = part_of(message);
  if (!part) {
    give_up(concat("rank ", message.rank, " reported checksums that are none"));
    return {};
  }
  if (message.rank == 0) attempt_->layout = message.layout;
  attempt_->parts.insert_or_assign(message.rank, std::move(*part));
  return std::ssize(attempt_->parts) == message.ranks ? publish() : Status();
}

/// Whether parts of `id` are collected now.
bool CheckpointKeeper::take_up(const CheckpointId& id, const Ranks& ranks) {
  if (attempt_ && attempt_->id == id) return true;
  if (given_up_ == id || (attempt_ && attempt_->id.step > id.step)) return false;
  if (attempt_) give_up(concat("that of step ", id.step, " has overtaken it"));
  attempt_ = Attempt{id, ranks.workers, {}, {}};
  return true;
}

void CheckpointKeeper::on_lost(WorkerId worker, bool done) {
  if (!attempt_) return;
  const auto member = std::ranges::find(attempt_->workers, worker);
  const std::int64_t rank = member - attempt_->workers.begin();
  if (member != attempt_->workers.end() && !attempt_->parts.contains(rank))
    give_up(done ? "" : concat("rank ", rank, " was lost while it wrote its part"));
}

void CheckpointKeeper::on_end() {
  if (!attempt_) return;
  // Nobody misses it where the job is done.
  [[maybe_unused]] const Status removed = abandon_checkpoint(run_dir_, attempt_->id);
  attempt_.reset();
}

/// `why` completes a sentence; empty: nobody needs to know.
void CheckpointKeeper::give_up(const std::string& why) {
  const CheckpointId id = std::exchange(attempt_, std::nullopt)->id;
  given_up_ = id;
  if (!why.empty()) warn_(concat(name_of(id), " is given up: ", why));
  const Status removed = abandon_checkpoint(run_dir_, id);
  if (!removed.ok()) warn_(removed.error().message);
}

CheckpointManifest CheckpointKeeper::manifest() const {
  CheckpointManifest manifest{attempt_->id, fingerprint_, scalars_, attempt_->layout, {}};
  manifest.id.term = record_.term();  // the journal's, with which a run is resumed
  for (const auto& [rank, part] : attempt_->parts) manifest.parts.push_back(part);
  return manifest;
}

/// All parts are there.
Status CheckpointKeeper::publish() {
  // A run is resumed from a checkpoint with the journal up to there, so that must not be lost before it is.
  PACELINE_TRY(record_.sync());
  const CheckpointManifest complete = manifest();
  const CheckpointId& id = complete.id;
  if (record_.steps() < id.step) {
    give_up(concat("its ranks have reported steps only up to ", record_.steps()));
    return {};
  }
  const Status published = publish_checkpoint(run_dir_, complete, attempt_->id);
  if (!published.ok() && published.error().code == ErrorCode::mismatch) return published;
  if (!published.ok()) {
    // Of the same step and term: what ranks of another generation wrote is the same state.
    const bool is_there = published.error().code == ErrorCode::already_exists;
    give_up(is_there ? "" : published.error().message);
    return {};
  }
  attempt_.reset();
  ++published_;
  PACELINE_TRY(record_.add(JournalCheckpoint{
      id.step, id.generation, static_cast<std::int64_t>(complete.parts.size()), state_bytes(complete)}));
  const Status kept =
      keep_checkpoints(run_dir_, keep_, generations_.empty() ? 0 : generations_.rbegin()->first);
  if (!kept.ok()) warn_(concat("old checkpoints are not removed: ", kept.error().message));
  return {};
}

}  // namespace paceline

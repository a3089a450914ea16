#include "resume.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "checkpoints.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "paceline/job/checkpoint.hpp"
#include "run_directory.hpp"

namespace paceline {
namespace {

/// A key in which two sets of values differ.
struct Difference {
  std::string key;
  std::string before;  // "none" where there is no such key
  std::string after;
};

/// The first one.
template <class Values>
std::optional<Difference> difference(const Values& before, const Values& after) {
  using Value = typename Values::mapped_type;
  std::map<std::string, std::pair<const Value*, const Value*>> all;
  for (const auto& [key, value] : before) all[key].first = &value;
  for (const auto& [key, value] : after) all[key].second = &value;
  const auto text = [](const Value* value) -> std::string {
    return value == nullptr ? "none" : std::visit([](const auto& plain) { return concat(plain); }, *value);
  };
  for (const auto& [key, pair] : all)
    if (pair.first == nullptr || pair.second == nullptr || *pair.first != *pair.second)
      return Difference{key, text(pair.first), text(pair.second)};
  return std::nullopt;
}

/// The number in a name such as "rank-012.log" or "7.json"; -1 where it is no such name.
std::int64_t number_in(const std::string& name, std::string_view before, std::string_view after) {
  if (!name.starts_with(before) || !name.ends_with(after) || name.size() <= before.size() + after.size())
    return -1;
  std::int64_t number = -1;
  const char* end = name.data() + name.size() - after.size();
  const auto [stop, error] = std::from_chars(name.data() + before.size(), end, number);
  return error == std::errc() && stop == end ? number : -1;
}

/// The highest of them in a folder; `least` where there is none.
std::int64_t highest_in(const std::string& folder, std::string_view before, std::string_view after,
                        std::int64_t least) {
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    least = std::max(least, number_in(it->path().filename().string(), before, after));
  return least;
}

/// Of a term that the history went through, and not of a step that it went back behind.
bool counts(const Journal& journal, std::int64_t term, std::int64_t step) {
  return std::ranges::any_of(
      journal.terms, [&](const JournalTerm& one) { return one.term == term && step <= one.last_step; });
}

Status check_belongs(const Checkpoint& checkpoint, const RunHistory& history) {
  const CheckpointManifest& manifest = checkpoint.manifest;
  const auto key = manifest.scalars.find("journal_key");
  if (key == manifest.scalars.end() || key->second != CheckpointValue(hex_word(history.journal.header.key)))
    return Error{ErrorCode::mismatch, concat("the checkpoint ", checkpoint.folder,
                                             " is not of this run: it has another key than ", "the journal")};
  if (manifest.job_fingerprint == job_fingerprint(history.job)) return {};
  CheckpointValues of_job;
  for (const auto& [name, value] : manifest.scalars)
    if (name.starts_with("job.")) of_job.emplace(name.substr(4), value);
  const std::optional<Difference> how = difference(of_job, deciding_values(history.job));
  return Error{ErrorCode::mismatch,
               concat("the checkpoint ", checkpoint.folder, " is of another job than the run's job.json: ",
                      how ? concat(how->key, " was ", how->before, " and is ", how->after)
                          : "it was written by another version",
                      "; put back the job.json that the run had")};
}

}  // namespace

std::int64_t highest_worker(const std::string& run_dir) {
  return highest_in(run_dir + "/logs", "rank-", ".log", -1);
}

Result<RunHistory> read_history(const std::string& run_dir) {
  RunHistory history;
  PACELINE_ASSIGN(const std::string json, read_file(run_dir + "/job.json"));
  PACELINE_ASSIGN(history.job, job_from_json(json));
  PACELINE_ASSIGN(history.journal, read_lineage(run_dir));
  const std::optional<JournalEnd>& end = history.journal.end;
  if (end && end->status == "completed")
    return Error{ErrorCode::invalid_argument, concat("the run in ", run_dir, " is completed, after ",
                                                     end->steps, " steps: there is nothing to resume")};
  return history;
}

Job with_absolute_paths(Job job) {
  job.data.train = absolute_path(job.data.train);
  if (!job.data.eval.empty()) job.data.eval = absolute_path(job.data.eval);
  // Without a slash it is looked for where libraries are.
  if (job.model.plugin.find('/') != std::string::npos) job.model.plugin = absolute_path(job.model.plugin);
  return job;
}

Result<Job> resumed_job(const Job& job, const std::vector<JobOverride>& overrides) {
  if (overrides.empty()) return job;
  Result<Job> changed = with_overrides(job, overrides);
  if (!changed.ok()) return Error{ErrorCode::invalid_argument, changed.error().message};
  const std::optional<Difference> how =
      difference(deciding_values(with_absolute_paths(job)), deciding_values(with_absolute_paths(*changed)));
  if (!how) {  // as its checkpoints have them
    changed->data.train = job.data.train;
    changed->data.eval = job.data.eval;
    changed->model.plugin = job.model.plugin;
    return changed;
  }
  return Error{ErrorCode::invalid_argument,
               concat("a resumed run keeps what its result depends on: ", how->key, " was ", how->before,
                      " and would be ", how->after, "; leave it as it was, or begin a new run")};
}

Result<RunPosition> find_position(const std::string& run_dir, const RunHistory& history,
                                  const std::function<void(const std::string&)>& warn) {
  RunPosition position;
  position.term = history.journal.header.term + 1;
  position.last_generation = highest_in(run_dir + "/generations", "", ".json", 0);
  position.last_worker = highest_worker(run_dir);
  std::vector<std::string> passed_over;
  const Result<Checkpoint> checkpoint = open_newest_checkpoint(
      run_dir, passed_over,
      [&](std::int64_t term, std::int64_t step) { return counts(history.journal, term, step); });
  for (const std::string& sentence : passed_over) warn(concat("a checkpoint is passed over: ", sentence));
  if (!checkpoint.ok() && checkpoint.error().code != ErrorCode::not_found) return checkpoint.error();
  if (!checkpoint.ok()) {
    warn(concat(checkpoint.error().message, ": the run begins anew"));
    return position;
  }
  PACELINE_TRY(check_belongs(*checkpoint, history));
  position.base_step = checkpoint->manifest.id.step;
  position.checkpoint = checkpoint->folder;
  return position;
}

Status check_same_order(const JournalHeader& before, const JournalHeader& now) {
  const std::optional<Difference> how = difference(before.order, now.order);
  if (!how) return {};
  return Error{
      ErrorCode::mismatch,
      concat("the run cannot be resumed, because the dataset is not the one that it was trained on: its ",
             how->key, " was ", how->before, " and is ", how->after)};
}

}  // namespace paceline

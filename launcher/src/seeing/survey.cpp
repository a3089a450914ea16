#include "seeing/survey.hpp"

#include "generation_file.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::size_t most_ranks_kept = 16;

/// Takes in the lines of one worker.
class WorkerReader {
 public:
  WorkerReader(const TelemetryFiles& files, const StepRange& range, const Memberships& memberships,
               Survey& survey)
      : range_(range), memberships_(memberships), survey_(survey) {
    found_.files = files;
  }

  void take(const WorkerBegun& begun) {
    if (!begun.node.empty()) found_.node = begun.node;
    found_.pid = begun.pid;
    if (range_.is_all()) see(begun.time, begun.time);
  }
  void take(const RankTaken& rank) {
    generation_ = rank.generation;
    note_rank(rank.rank);
    survey_.began.try_emplace(rank.generation, SeenCommit{rank.generation, found_.node, rank.time});
  }
  void take(const StepTimed& step) {
    if (!range_.contains(step.step)) return;
    const std::int64_t generation = generation_of(step.step);
    survey_.commits[found_.node].add({generation, step.step}, step.committed());
    note_marked(step, generation);
    if (found_.steps++ == 0) found_.first_step = found_.last_step = step.step;
    found_.first_step = std::min(found_.first_step, step.step);
    found_.last_step = std::max(found_.last_step, step.step);
    see(step.time, step.end());
  }
  void take(const PhaseTimed& phase) {
    if (range_.is_all()) see(phase.time, phase.time + phase.took_us * 1e-6);
  }
  void take(const Sampled& sample) {
    if (range_.is_all()) see(sample.time, sample.time);
  }
  void take(const LinesLost&) {}
  void take(const OtherLine&) {}
  void take(std::monostate) {}

  /// Nothing where there is nothing to show.
  [[nodiscard]] std::optional<WorkerSurvey> result() const {
    return has_times_ ? std::optional(found_) : std::nullopt;
  }

 private:
  std::int64_t generation_of(std::int64_t step) {
    if (generation_ > 0) return generation_;
    const auto membership = memberships_.at(found_.files.worker, step);
    if (!membership) return 0;
    note_rank(membership->rank);
    return membership->generation;
  }
  void note_rank(std::int64_t rank) {
    const bool known = std::ranges::find(found_.ranks, rank) != found_.ranks.end();
    if (!known && found_.ranks.size() < most_ranks_kept) found_.ranks.push_back(rank);
  }
  void note_marked(const StepTimed& step, std::int64_t generation) {
    const auto of_interest = survey_.marked.find(step.step);
    if (of_interest == survey_.marked.end()) return;
    std::vector<SeenCommit>& seen = of_interest->second;
    if (std::ranges::find(seen, generation, &SeenCommit::generation) == seen.end())
      seen.push_back({generation, found_.node, step.committed()});
  }
  void see(double begin, double end) {
    if (!has_times_) found_.begin = begin, found_.end = end;
    has_times_ = true;
    found_.begin = std::min(found_.begin, begin);
    found_.end = std::max(found_.end, end);
  }

  const StepRange& range_;
  const Memberships& memberships_;
  Survey& survey_;
  WorkerSurvey found_;
  std::int64_t generation_ = 0;
  bool has_times_ = false;
};

}  // namespace

Memberships Memberships::read(const std::string& run_dir) {
  Memberships all;
  const Result<std::vector<Generation>> generations = read_generations(run_dir, 0);
  if (!generations.ok()) return all;
  for (const Generation& generation : *generations)
    for (std::size_t rank = 0; rank < generation->members.size(); ++rank)
      all.by_worker_[generation->members[rank].worker].push_back(
          {generation->generation, generation->base_step, static_cast<std::int64_t>(rank),
           std::ssize(generation->members)});
  return all;
}

std::optional<Memberships::Membership> Memberships::at(std::int64_t worker, std::int64_t step) const {
  const auto found = by_worker_.find(worker);
  if (found == by_worker_.end()) return std::nullopt;
  for (auto membership = found->second.rbegin(); membership != found->second.rend(); ++membership)
    if (membership->base_step < step) return *membership;
  return std::nullopt;
}

Result<Survey> survey_telemetry(const std::string& run_dir, const StepRange& range,
                                const std::set<std::int64_t>& marked) {
  PACELINE_ASSIGN(const std::vector<TelemetryFiles> all, find_telemetry(run_dir));
  const Memberships memberships = Memberships::read(run_dir);
  Survey survey;
  for (const std::int64_t step : marked) survey.marked.try_emplace(step);
  for (const TelemetryFiles& files : all) {
    WorkerReader reader(files, range, memberships, survey);
    PACELINE_ASSIGN(const std::int64_t unreadable,
                    read_telemetry(files, [&reader](const TelemetryLine& line) {
                      std::visit([&reader](const auto& read) { reader.take(read); }, line);
                    }));
    survey.unreadable += unreadable;
    if (auto worker = reader.result()) survey.workers.push_back(std::move(*worker));
  }
  return survey;
}

}  // namespace paceline

#include "elastic/coordinator_process.hpp"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "elastic/decision_record.hpp"
#include "generation_file.hpp"
#include "launch.hpp"
#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"
#include "paceline/control/address.hpp"
#include "paceline/control/version.hpp"
#include "paceline/data/dataset.hpp"
#include "resume.hpp"
#include "summary.hpp"

namespace paceline {
namespace {

constexpr Duration longest_sleep = std::chrono::milliseconds(100);
constexpr Duration longest_turn = std::chrono::milliseconds(50);
// How long the agents of the launch are waited for, when it begins and when they need only look for a
// successor.
constexpr Duration gather_limit = std::chrono::seconds(60);
constexpr Duration gather_again_limit = std::chrono::seconds(5);
constexpr Duration look_interval = std::chrono::seconds(1);
// A turn of the loop takes a small part of this.
constexpr Duration own_pause = std::chrono::seconds(1);
constexpr Duration part_limit = std::chrono::seconds(5);

Result<std::string> listening_host(const LaunchFacts& facts) {
  if (!facts.host.empty()) return facts.host;
  return outside_address(environment("PACELINE_INTERFACE"));
}

CoordinatorOptions coordinator_options(const LaunchFacts& facts, std::int64_t term) {
  CoordinatorOptions options;
  options.term = term;
  options.wish = facts.ranks;
  options.min_ranks = facts.min_ranks;
  options.max_ranks = facts.max_ranks;
  options.last_generation = facts.position.last_generation;
  return options;
}

/// Since the file was written, by the wall clock; 0 where that can't be told.
double age_s(const std::string& path) {
  struct stat file {};
  if (::stat(path.c_str(), &file) != 0) return 0;
  return std::max(0.0, seconds_since_1970() - static_cast<double>(file.st_mtim.tv_sec));
}

/// Of the run's consumed hashes: the one that its journals have, or a new one.
struct JournalKey {
  std::uint64_t key = 0;
  bool begun = false;  ///< this launch has a journal: another coordinator had begun
};

Result<JournalKey> journal_key(const std::string& run_dir, const RunPosition& position, const Job& job,
                               const DatasetInfo& dataset) {
  const Result<Journal> journal = read_lineage(run_dir);
  if (!journal.ok() && journal.error().code != ErrorCode::not_found) return journal.error();
  if (journal.ok()) {
    const bool begun = journal->header.term >= position.term;
    if (begun && journal->end)
      return Error{ErrorCode::aborted, concat("the job has ended: ", journal->end->status)};
    return JournalKey{journal->header.key, begun};
  }
  PACELINE_ASSIGN(const JournalHeader header, new_journal_header(job, run_dir, dataset));
  return JournalKey{header.key, false};
}

}  // namespace

Status CoordinatorProcess::run(const Options& given) {
  Options options = given;
  PACELINE_ASSIGN(const LaunchFacts facts, read_launch_facts(options.run_dir));
  PACELINE_ASSIGN(const std::string job_text, read_file(options.run_dir + "/job.json"));
  PACELINE_ASSIGN(Job job, job_from_json(job_text));
  PACELINE_ASSIGN(const control::Credentials credentials, control::read_credentials(options.run_dir));
  PACELINE_ASSIGN(const Dataset dataset, Dataset::open(job.data.train, {.window = tokens_per_sample(job)}));
  PACELINE_ASSIGN(const JournalKey key, journal_key(options.run_dir, facts.position, job, dataset.info()));
  options.succeeds = key.begun;
  PACELINE_ASSIGN(options.host, listening_host(facts));
  PACELINE_ASSIGN(auto server,
                  control::Server::start({options.host, facts.ports.first, facts.ports.last}, credentials));
  PACELINE_TRY(control::take_term(options.run_dir, {.term = options.term,
                                                    .pid = ::getpid(),
                                                    .node = options.node,
                                                    .host = options.host,
                                                    .port = server->port()}));
  const StepPlan plan(dataset.info().samples, job.batch.global, job.epochs, job.steps);
  CoordinatorProcess process(options, facts, std::move(job), std::move(server), key.key, plan);
  process.dataset_ = dataset.info();
  return process.loop();
}

CoordinatorProcess::CoordinatorProcess(Options options, LaunchFacts facts, Job job,
                                       std::unique_ptr<control::Server> server, std::uint64_t key,
                                       const StepPlan& plan)
    : options_(std::move(options)),
      facts_(std::move(facts)),
      job_(std::move(job)),
      server_(std::move(server)),
      key_(key),
      plan_(plan),
      began_at_(clock_.now()),
      insight_(job_, facts_.ranks),
      policy_(resize_rules(job_)),
      elapsed_before_s_(age_s(options_.run_dir + "/job.json")) {
}

/// A new run's, that of a run which goes on from where it is resumed, or that of a job which goes on.
Status CoordinatorProcess::open_record() {
  const RunPosition& position = facts_.position;
  const bool continues = options_.succeeds || position.term > 1;
  if (continues) {
    PACELINE_ASSIGN(record_, RunRecord::succeed(options_.run_dir, clock_, options_.term,
                                                options_.succeeds ? std::optional<std::int64_t>()
                                                                  : std::optional(position.base_step),
                                                plan_));
  } else {
    PACELINE_ASSIGN(JournalHeader header, new_journal_header(job_, options_.run_dir, dataset_));
    header.key = key_;
    header.term = options_.term;
    PACELINE_ASSIGN(record_, RunRecord::create(options_.run_dir, clock_, header, plan_));
  }
  keeper_.emplace(options_.run_dir, job_, *record_, [this](const std::string& text) { notice(true, text); });
  return {};
}

Status CoordinatorProcess::loop() {
  while (!ended_) {
    poll_once();
    begin_turn();
    look_for_newer();
    if (ended_) break;
    begin_when_all_are_there();
    drop_silent_agents();
    beat();
    acknowledge_steps();
    note_attending();
    look_at_ranks();
    report_metrics();
    if (!coordinator_ || ended_) continue;
    if (const auto wake = coordinator_->wake(); wake && clock_.now() >= *wake) feed(Tick{});
  }
  report_metrics();
  part();
  if (fenced_) return Error{ErrorCode::already_exists, outcome_.failure->sentence};
  return {};
}

/// The agents close their streams when they have heard how it ended.
void CoordinatorProcess::part() {
  const Deadline deadline(clock_, part_limit);
  const auto is_there = [](const auto& agent) { return agent.second.stream.has_value(); };
  while (!fenced_ && std::ranges::any_of(roster_.agents(), is_there) && !deadline.passed()) poll_once();
}

/// A process that stood still must not blame others for a silence of its own, and may have been succeeded.
void CoordinatorProcess::begin_turn() {
  const Instant before = std::exchange(turn_at_, clock_.now());
  if (before == Instant{} || turn_at_ - before < own_pause) return;
  log(LogLevel::warning, concat("this coordinator stood still for ", to_seconds(turn_at_ - before), " s"));
  for (auto& [name, agent] : roster_.agents())
    if (!std::exchange(agent.spared, true))
      agent.heard_at = std::min(agent.heard_at + (turn_at_ - before), turn_at_);
  looked_at_ = {};
}

/// Whoever has a higher term is in charge.
void CoordinatorProcess::look_for_newer() {
  if (ended_ || clock_.now() - looked_at_ < look_interval) return;
  looked_at_ = clock_.now();
  const auto newest = control::newest_coordinator(options_.run_dir);
  if (!newest.ok() || !*newest || (*newest)->term <= options_.term) return;
  ended_ = fenced_ = true;
  outcome_.failure = FailureReport{.sentence = concat("a coordinator of term ", (*newest)->term,
                                                      " has taken over from that of term ", options_.term)};
}

void CoordinatorProcess::poll_once() {
  pollfd entry{server_->fd(), POLLIN, 0};
  Duration sleep = longest_sleep;
  if (coordinator_)
    if (const auto wake = coordinator_->wake()) sleep = std::min<Duration>(sleep, *wake - clock_.now());
  if (!backlog_.empty()) sleep = Duration::zero();
  const Deadline deadline(clock_, std::max(sleep, Duration::zero()));
  ::poll(&entry, 1, deadline.left_ms());
  for (control::ServerEvent& event : server_->take()) {
    // A question need not wait for what agents said before, and whoever waits to be heard is not silent.
    if (const auto* asked = std::get_if<control::Asked>(&event)) {
      answer(asked->question, asked->request);
      continue;
    }
    if (const auto* message = std::get_if<control::Heard>(&event)) {
      Roster::Agent* agent = roster_.of_stream(message->stream);
      if (message->message.has_register_()) agent = roster_.find(message->message.register_().agent());
      if (agent != nullptr) agent->is_heard(clock_.now());
    }
    backlog_.push_back(std::move(event));
  }
  work_off_backlog();
}

/// For a while only: disks may be slow, and everybody must hear meanwhile that this coordinator lives.
void CoordinatorProcess::work_off_backlog() {
  const Deadline turn(clock_, longest_turn);
  while (!backlog_.empty() && !turn.passed()) {
    const control::ServerEvent event = std::move(backlog_.front());
    backlog_.pop_front();
    if (const auto* message = std::get_if<control::Heard>(&event)) {
      heard(message->stream, message->message);
    } else if (const auto* closed = std::get_if<control::Closed>(&event)) {
      if (Roster::Agent* const agent = roster_.of_stream(closed->stream)) {
        agent->stream.reset();
        agent->broken_at = clock_.now();
      }
    }
  }
}

void CoordinatorProcess::begin_when_all_are_there() {
  if (coordinator_ || ended_) return;
  const bool all = are_all_there();
  const Duration limit = options_.succeeds ? gather_again_limit : gather_limit;
  if (!all && (roster_.agents().empty() || clock_.now() - began_at_ < limit)) return;
  if (const Status begun = begin(); !begun.ok()) fail(begun.error().message);
}

Status CoordinatorProcess::begin() {
  PACELINE_TRY(open_record());
  if (!options_.succeeds && !launch_problem_.empty())
    return Error{ErrorCode::invalid_argument, launch_problem_};
  for (const std::string& node : facts_.closed) roster_.close_node(node);
  if (options_.succeeds) {
    PACELINE_TRY(succeed());
  } else {
    CoordinatorOptions options = coordinator_options(facts_, options_.term);
    options.room = roster_.room();
    options.base_step = record_->steps();
    options.last_worker = facts_.position.last_worker;
    coordinator_.emplace(options);
    carry_out(coordinator_->begin(clock_.now()));
  }
  for (const CoordinatorEvent& event : std::exchange(events_, {})) feed(event);
  return {};
}

Status CoordinatorProcess::succeed() {
  PACELINE_ASSIGN(const std::vector<Generation> records,
                  read_generations(options_.run_dir, facts_.position.last_generation));
  for (const WorkerMessage& told : std::exchange(told_before_, {})) {
    if (const auto* steps = std::get_if<StepsMessage>(&told)) PACELINE_TRY(record_->add(*steps));
    if (const auto* eval = std::get_if<EvalMessage>(&told)) PACELINE_TRY(record_->add(*eval));
  }
  CoordinatorOptions options = coordinator_options(facts_, options_.term);
  options.room = roster_.room();
  options.base_step = record_->steps();
  options.last_worker = highest_worker(options_.run_dir);
  options.history = record_->generations_since(facts_.position.term);
  coordinator_.emplace(options);
  const std::string text =
      concat("another coordinator, of term ", options_.term, ", has taken over after step ", record_->steps(),
             ", with ", found_.size(), " workers");
  log(LogLevel::info, text);
  notice(true, concat("the coordinator was lost; ", text));
  carry_out(coordinator_->take_over(records, found_, clock_.now()));
  if (!ended_ && coordinator_->generation() != nullptr) keeper_->on_generation(*coordinator_->generation());
  return {};
}
// ---- names ------------------------------------------------------------------------------------------

std::int64_t CoordinatorProcess::rank_of(WorkerId id) const {
  const Generation generation = coordinator_ ? coordinator_->generation() : nullptr;
  if (generation == nullptr) return id;
  const auto member = std::ranges::find(generation->members, id, &GenerationMember::worker);
  return member == generation->members.end() ? id : member - generation->members.begin();
}

std::string CoordinatorProcess::name_of(WorkerId id) const {
  const auto found = workers_.find(id);
  return concat("rank ", rank_of(id), " on node ", roster_.node_of(id), " (pid ",
                found == workers_.end() ? 0 : found->second.pid, ")");
}

}  // namespace paceline

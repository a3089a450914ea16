#include "fleet/slurm_growth.hpp"

#include <poll.h>

#include <algorithm>
#include <csignal>

#include "paceline/base/text.hpp"
#include "rendezvous.hpp"
#include "spawn.hpp"

namespace paceline {
namespace {

constexpr std::int64_t usual_interval_s = 5;
constexpr Duration answer_limit = std::chrono::seconds(60);
constexpr Duration cancel_limit = std::chrono::seconds(5);
constexpr int turn_ms = 50;

}  // namespace

bool GrowthRate::is_due(std::int64_t shortage, Instant now) {
  if (shortage <= 0) {
    short_since_.reset();
    return false;
  }
  if (!short_since_) short_since_ = now;
  return now - *short_since_ >= limits_.lasts && (!asked_at_ || now - *asked_at_ >= between_);
}

void GrowthRate::came_to(bool anything) {
  between_ = anything ? limits_.between : std::min(2 * between_, limits_.most_between);
}

SlurmGrowth::SlurmGrowth(std::string options, std::int64_t cores)
    : options_(std::move(options)),
      cores_(std::max<std::int64_t>(1, cores)),
      interface_(environment("PACELINE_INTERFACE").value_or("")),
      interval_(
          std::chrono::seconds(parse_integer(environment("PACELINE_SLURM_POLL_S").value_or(""), 1, 86400)
                                   .value_or(usual_interval_s))),
      looked_at_(clock_.now()),
      rate_({.lasts = 2 * interval_, .between = 12 * interval_}) {
}

SlurmGrowth::~SlurmGrowth() {
  if (request_.empty()) return;
  // sbatch may still be under way: what it submits has that name.
  await(submission_, cancel_limit);
  if (question_) question_->connection.signal(SIGKILL);
  question_.reset();
  cancel();
  await(question_, cancel_limit);
}

void SlurmGrowth::await(std::optional<Question>& question, Duration limit) {
  const Deadline deadline(clock_, limit);
  while (question && !question->connection.ended() && !deadline.passed()) ::poll(nullptr, 0, turn_ms);
  if (question && !question->connection.ended()) question->connection.signal(SIGKILL);
}

std::optional<SlurmGrowth::Answer> SlurmGrowth::take_answer(std::optional<Question>& question) {
  if (!question) return std::nullopt;
  question->connection.read([&](const std::string& line) { question->lines.push_back(line); },
                            [](const std::string&) {});
  const bool is_over = question->connection.output_fd() < 0 && question->connection.ended();
  if (!is_over && clock_.now() - question->since < answer_limit) return std::nullopt;
  if (!is_over) question->connection.signal(SIGKILL);  // or its end would be waited for
  Answer answer{question->kind, is_over ? question->connection.ended() : std::nullopt,
                std::move(question->lines), question->connection.words()};
  question.reset();
  return answer;
}

void SlurmGrowth::ask(std::optional<Question>& question, Kind kind, const std::vector<std::string>& command) {
  auto program = Connection::start(command.front(), command);
  if (!program.ok()) return;
  program->close_input();
  question.emplace(Question{kind, std::move(*program), {}, clock_.now()});
}

std::vector<std::string> SlurmGrowth::attend(const std::function<std::optional<std::int64_t>()>& shortage) {
  std::vector<std::string> news;
  if (const auto answer = take_answer(submission_)) hear_of_submission(*answer, news);
  if (const auto answer = take_answer(question_)) hear(*answer);
  const Instant now = clock_.now();
  if (run_dir_.empty() || submission_ || question_ || now - looked_at_ < interval_) return news;
  looked_at_ = now;
  if (const std::optional<std::int64_t> ranks = shortage()) look(*ranks, news);
  if (!request_.empty() && !submission_ && !question_)
    ask(question_, Kind::state, {"squeue", "--noheader", concat("--name=", request_), "--format=%T"});
  return news;
}

void SlurmGrowth::look(std::int64_t shortage, std::vector<std::string>& news) {
  if (request_.empty()) {
    if (rate_.is_due(shortage, clock_.now())) submit(shortage, news);
    return;
  }
  // Of the nodes that come, the first make the shortage less than it ever was since they were asked for.
  if (waits_) most_short_ = std::max(most_short_, shortage);
  if (waits_ && shortage <= 0) {
    if (!cancelling_)
      news.push_back(concat("the nodes of ", request_, " are not needed any more: it is cancelled"));
    cancel();
  } else if (!waits_ && shortage < most_short_) {
    // They are here, and go when they like. What is still missing is asked for anew.
    rate_.came_to(true);
    request_.clear();
  }
}

void SlurmGrowth::submit(std::int64_t shortage, std::vector<std::string>& news) {
  rate_.asked(clock_.now());
  const Result<std::string> program = own_program();
  const Result<std::string> script = find_batch_script("grow.sbatch");
  const Result<std::string> random = random_secret();
  for (const Result<std::string>& needed : {program, script, random}) {
    if (needed.ok()) continue;
    news.push_back(needed.error().message);
    return rate_.came_to(false);
  }
  most_short_ = shortage;
  waits_ = true;
  cancelling_ = false;
  const std::int64_t nodes = (shortage + cores_ - 1) / cores_;
  // A name that no other job has, so that it is known even if sbatch's answer never comes.
  request_ = concat("paceline-grow-", random->substr(0, 8));
  ask(submission_, Kind::submission,
      grow_command({*script, *program, interface_, options_, nodes, run_dir_, request_}));
  news.push_back(concat("there are no places for ", shortage, shortage == 1 ? " rank" : " ranks",
                        ": Slurm is asked for ", nodes, nodes == 1 ? " more node" : " more nodes"));
}

void SlurmGrowth::hear_of_submission(const Answer& answer, std::vector<std::string>& news) {
  // Without an end it may have been submitted all the same; squeue will tell.
  if (!answer.status || *answer.status == 0) return;
  news.push_back(concat("sbatch gave no more nodes (ranks.grow is ", shown(options_), "): ", answer.words));
  rate_.came_to(false);
  request_.clear();
}

void SlurmGrowth::hear(const Answer& answer) {
  const bool is_sure = answer.status && *answer.status == 0;
  // A controller that is away says nothing of the job; and after a cancellation squeue says when it is gone.
  if (request_.empty() || !is_sure || answer.kind == Kind::cancellation) return;
  if (!answer.lines.empty()) {
    waits_ = answer.lines.front().starts_with("PENDING");
    return;
  }
  if (!cancelling_) rate_.came_to(false);
  request_.clear();
}

void SlurmGrowth::cancel() {
  cancelling_ = true;
  ask(question_, Kind::cancellation, {"scancel", "--state=PENDING", concat("--name=", request_)});
}

std::vector<std::string> grow_command(const GrowRequest& request) {
  std::vector<std::string> command = {
      "sbatch", "--parsable",
      concat("--export=ALL,PACELINE=", request.program, ",PACELINE_INTERFACE=", request.interface),
      concat("--nodes=", request.nodes)};
  for (const std::string& option : split(request.options, ' '))
    if (!option.empty()) command.push_back(option);
  command.insert(command.end(), {concat("--job-name=", request.name), request.script, request.run_dir});
  return command;
}

}  // namespace paceline

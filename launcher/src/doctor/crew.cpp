#include "doctor/crew.hpp"

#include <sys/wait.h>

#include <algorithm>

#include "doctor/examine.hpp"
#include "fleet/starting.hpp"
#include "paceline/base/text.hpp"
#include "worker_process.hpp"

namespace paceline::doctor {
namespace {

// As for the agents of a training.
constexpr Duration hello_limit = std::chrono::seconds(60);
// The sum of what the checks of a node may take.
constexpr Duration checks_limit = std::chrono::seconds(240);
constexpr Duration part_limit = std::chrono::seconds(5);
constexpr int turn_ms = 50;

const char* const same_program =
    "install the same version of paceline on all nodes, at the same place, and see that they have this "
    "folder";

std::string described_end(const Connection& connection, int status) {
  const std::string words = connection.words();
  return concat(describe_end(status), words.empty() ? "" : ": ", words);
}

/// What ssh itself gives where it did not get through.
bool is_sshs_own(int status) {
  return WIFEXITED(status) && WEXITSTATUS(status) == 255;
}

}  // namespace

Crew::Crew(const Allocation& allocation, const std::string& folder) : allocation_(allocation) {
  const auto programs = node_programs(allocation, {"doctor", "--node", "--folder", folder});
  if (!programs.ok()) missing_.push_back(problem("nodes", programs.error().message, same_program));
  if (!programs.ok()) return;
  for (const NodeProgram& program : *programs)
    start(program.name, allocation.in_one_piece() ? "" : program.name, program.command);
}

Crew::~Crew() {
  const SteadyClock clock;
  const Deadline deadline(clock, part_limit);
  for (Connection& connection : connections_) connection.close_input();
  const auto is_there = [](Connection& connection) { return !connection.ended(); };
  while (std::ranges::any_of(connections_, is_there) && !deadline.passed()) pump(turn_ms);
}

void Crew::start(const std::string& name, const std::string& member,
                 const std::vector<std::string>& command) {
  Result<Connection> connection = Connection::start(name, command);
  // Tasks of srun become members when they speak.
  Member* known = member.empty() ? nullptr : &member_of(name + " ");
  if (known != nullptr) known->name = member;
  if (connection.ok()) {
    connections_.push_back(std::move(connection).value());
    return;
  }
  const std::string mend = "install it, or set PACELINE_SSH to the program that takes its place";
  if (known != nullptr)
    lose(*known, connection.error().message, mend);
  else
    missing_.push_back(problem("nodes", connection.error().message, mend));
}

void Crew::lose(Member& member, const std::string& found, const std::string& mend) {
  if (member.lost) return;
  member.lost = true;
  member.checks.push_back(problem("connection", found, mend));
}

Crew::Member& Crew::member_of(const std::string& key) {
  const auto found = std::ranges::find_if(members_, [&](const auto& member) { return member->key == key; });
  if (found != members_.end()) return **found;
  members_.push_back(std::make_unique<Member>());
  members_.back()->key = key;
  return *members_.back();
}

void Crew::pump(int limit_ms) {
  read_all(
      connections_, limit_ms,
      [this](const Connection& connection, const std::string& line) { hear(connection.name(), line); },
      [](const Connection&, const std::string&) {});
}

void Crew::hear(const std::string& connection, const std::string& line) {
  const auto [label, text] = without_label(allocation_.by, line);
  if (!text.starts_with(line_mark)) return;
  Member& member = member_of(concat(connection, " ", label));
  if (!member.lost) take(member, std::string_view(text).substr(line_mark.size()));
}

void Crew::take(Member& member, std::string_view kind_and_text) {
  const auto text_of = [&](std::string_view mark) { return std::string(kind_and_text.substr(mark.size())); };
  if (kind_and_text.starts_with(hello_mark)) return welcome(member, text_of(hello_mark));
  Status understood;
  if (kind_and_text.starts_with(check_mark)) {
    Result<Check> check = parse_check(text_of(check_mark));
    if (check.ok()) return member.checks.push_back(std::move(check).value());
    understood = check.error();
  } else if (kind_and_text.starts_with(end_mark)) {
    member.examined = true;
    return welcome(member, text_of(end_mark));
  } else if (kind_and_text.starts_with(answer_mark)) {
    Result<Answer> answer = parse_answer(text_of(answer_mark));
    if (answer.ok()) {
      member.answer = std::move(answer).value();
      member.answered_at = seconds_since_1970();
      return;
    }
    understood = answer.error();
  }
  lose(member, understood.ok() ? "it says what this version does not understand" : understood.error().message,
       same_program);
}

void Crew::welcome(Member& member, const std::string& text) {
  Result<Hello> hello = parse_hello(text);
  if (!hello.ok()) return lose(member, hello.error().message, same_program);
  member.hello = std::move(hello).value();
  member.name = member.hello->node;
  if (member.hello->version != PACELINE_VERSION)
    lose(member,
         concat("its paceline is of version ", shown(member.hello->version), ", this one of ",
                PACELINE_VERSION),
         same_program);
}

void Crew::miss(const std::string& why, const std::string& mend) {
  for (const auto& member : members_)
    if (!member->examined) lose(*member, why, mend);
  const std::int64_t silent = allocation_.nodes - std::ssize(members_);
  if (silent > 0 && missing_.empty())
    missing_.push_back(
        problem("nodes", concat(silent, " of ", allocation_.nodes, " did not start; ", why), mend));
}

void Crew::notice_ends() {
  for (Connection& connection : connections_) {
    const std::optional<int> status = connection.ended();
    if (!status) continue;
    pump(0);  // its last words
    if (allocation_.by == "srun") {
      miss(concat("srun ", described_end(connection, *status)),
           "see that `srun hostname` works in this allocation");
      for (const auto& member : members_) lose(*member, "srun has ended", same_program);
      continue;
    }
    const std::string found = concat("ssh to ", connection.name(), " ", described_end(connection, *status));
    lose(member_of(connection.name() + " "), found,
         is_sshs_own(*status) ? concat("see that `ssh ", connection.name(), " true` works without a question")
                              : std::string(same_program));
  }
}

bool Crew::is_waiting() const {
  const bool all_there = std::ssize(members_) >= allocation_.nodes || !missing_.empty();
  return !all_there ||
         std::ranges::any_of(members_, [](const auto& member) { return !member->lost && !member->examined; });
}

void Crew::gather(StopSignals& signals) {
  const SteadyClock clock;
  const Deadline hello(clock, hello_limit), checks(clock, checks_limit);
  while (is_waiting() && signals.first() == 0) {
    pump(turn_ms);
    [[maybe_unused]] const int ignored = signals.take();
    notice_ends();
    const bool all_spoke =
        std::ssize(members_) >= allocation_.nodes &&
        std::ranges::all_of(members_, [](const auto& one) { return one->lost || one->hello; });
    if ((hello.passed() && !all_spoke) || checks.passed()) {
      const std::string said = connections_.empty() ? "" : connections_.front().words();
      for (const auto& member : members_)
        if (!member->hello)
          lose(*member, concat("nothing was heard within ", to_seconds(hello_limit), " s"),
               "see that it is up and answers");
      if (checks.passed() || allocation_.by == "srun")
        miss(concat("nothing was heard within ", to_seconds(checks.passed() ? checks_limit : hello_limit),
                    " s", said.empty() ? "" : "; said last: ", said),
             "see that the nodes are up and answer");
    }
  }
}

void Crew::ask(const Order& order, StopSignals& signals, const std::function<void()>& meanwhile) {
  for (const auto& member : members_) member->answer.reset();
  const std::string line = to_json(order);
  for (Connection& connection : connections_)
    // One that nobody reads is about to be noticed.
    [[maybe_unused]] const Status ignored = connection.write_line(line);
  if (meanwhile) meanwhile();
  const SteadyClock clock;
  const Deadline deadline(clock, answer_limit);
  const auto has_answered = [&](const Member* one) {
    return one->lost || (one->answer && one->answer->number == order.number);
  };
  while (signals.first() == 0 && !std::ranges::all_of(present(), has_answered)) {
    pump(turn_ms);
    [[maybe_unused]] const int ignored = signals.take();
    notice_ends();
    if (!deadline.passed()) continue;
    for (Member* member : present())
      if (!has_answered(member))
        lose(*member, concat("it did not do what it was told within ", to_seconds(answer_limit), " s"),
             "see whether it, or its filesystem, hangs");
  }
}

std::vector<Crew::Member*> Crew::present() {
  std::vector<Member*> result;
  for (const auto& member : members_)
    if (!member->lost) result.push_back(member.get());
  return result;
}

std::vector<NodeChecks> Crew::nodes() const {
  std::vector<NodeChecks> result;
  for (const auto& member : members_) result.push_back({member->name, member->checks});
  return result;
}

}  // namespace paceline::doctor

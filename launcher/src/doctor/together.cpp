#include "doctor/together.hpp"

#include <algorithm>
#include <map>

#include "doctor/child.hpp"
#include "doctor/node_command.hpp"
#include "doctor/rules.hpp"
#include "doctor/shared_trial.hpp"
#include "listener.hpp"
#include "paceline/base/text.hpp"

namespace paceline::doctor {
namespace {

constexpr int rounds = 3;
constexpr std::size_t most_endpoints = 256;
constexpr std::size_t most_named = 3;

const char* const share_it = "name a folder on a filesystem that all nodes share with --folder";
const char* const trust_it =
    "use another filesystem for runs (--folder), or mount this one with shorter caches";

struct NamedAnswer {
  std::string node;
  Answer answer;
};

/// This machine and its crew.
class Company {
 public:
  Company(Crew& crew, StopSignals& signals)
      : crew_(crew), signals_(signals), who_(new_participant("this machine")) {}

  /// The answers of all who are still there.
  std::vector<NamedAnswer> ask(Order order) {
    order.number = ++number_;
    std::vector<NamedAnswer> answers;
    crew_.ask(order, signals_, [&] {
      answers.push_back({"this machine", carry_out(order, who_, signals_)});
    });
    for (const Crew::Member* member : crew_.present())
      if (member->answer) answers.push_back({member->name, *member->answer});
    return answers;
  }
  /// When the last order was sent, and came back from each node, in the order of present().
  void ask_time() {
    Order order{.number = ++number_, .task = Task::tell_time};
    const double sent = seconds_since_1970();
    crew_.ask(order, signals_);
    for (Crew::Member* member : crew_.present())
      if (member->answer)
        member->checks.push_back(judge_skew(member->answer->time - (sent + member->answered_at) / 2,
                                            (member->answered_at - sent) / 2));
  }
  [[nodiscard]] Crew& crew() noexcept { return crew_; }
  [[nodiscard]] const std::string& who() const noexcept { return who_; }

 private:
  Crew& crew_;
  StopSignals& signals_;
  std::string who_;
  std::int64_t number_ = 0;
};

/// "a, b, c and 4 more".
std::string listed(const std::vector<std::string>& parts) {
  std::string text;
  for (std::size_t i = 0; i < std::min(parts.size(), most_named); ++i)
    text += concat(i == 0 ? "" : "; ", parts[i]);
  if (parts.size() > most_named) text += concat(" and ", parts.size() - most_named, " more");
  return text;
}

/// "node h2: cannot open ...", of all who had an error.
std::vector<std::string> errors_in(const std::vector<NamedAnswer>& answers) {
  std::vector<std::string> errors;
  for (const NamedAnswer& one : answers)
    if (!one.answer.error.empty()) errors.push_back(concat(one.node, ": ", one.answer.error));
  return errors;
}

double longest(const std::vector<NamedAnswer>& answers) {
  double seconds = 0;
  for (const NamedAnswer& one : answers) seconds = std::max(seconds, one.answer.seconds);
  return seconds;
}

std::optional<Check> check_names(Crew& crew) {
  std::map<std::string, int> names;
  for (const Crew::Member* member : crew.present())
    if (++names[member->name] == 2)
      return problem("names", concat("node ", member->name, " is there twice"),
                     "name each machine once, and set PACELINE_NODE on each where two have one name");
  return std::nullopt;
}

Check check_connections(Company& company) {
  std::vector<Endpoint> endpoints;
  for (const Crew::Member* member : company.crew().present())
    if (!member->hello->host.empty() && endpoints.size() < most_endpoints)
      endpoints.push_back({member->name, member->hello->host, member->hello->port});
  if (endpoints.empty())
    return problem("connections", "no node has an address", "see its check of the interface");
  const Result<std::string> here = address_towards(endpoints.front().host);
  const Result<PortRange> ports = parse_ports(environment("PACELINE_PORTS"));
  const Result<Listener> listener = here.ok() && ports.ok()
                                        ? listen_on(*here, *ports)
                                        : Result<Listener>(here.ok() ? ports.error() : here.error());
  if (listener.ok()) endpoints.push_back({"this machine", listener->host, listener->port});
  std::vector<std::string> faults;
  if (!listener.ok()) faults.push_back(concat("this machine: ", listener.error().message));
  for (const NamedAnswer& one : company.ask({.task = Task::connect, .endpoints = endpoints})) {
    if (!one.answer.error.empty()) faults.push_back(concat(one.node, ": ", one.answer.error));
    for (const std::string& missed : one.answer.missed) faults.push_back(concat(one.node, " to ", missed));
  }
  if (faults.empty())
    return fine("connections", concat("all of ", endpoints.size(), " machines reach each other"));
  return problem(
      "connections", listed(faults),
      "open the ports between the machines (a firewall?), or set PACELINE_INTERFACE or PACELINE_PORTS");
}

/// Lets all make the same file at once; exactly one may succeed. The others must then see who it was, which
/// takes `seconds`.
Status race(Company& company, Task task, const std::string& path, double& seconds) {
  const char* const call = task == Task::link ? "link" : "O_EXCL";
  // So that those who remember that a name is not there get the chance to.
  company.ask({.task = Task::look, .path = path});
  const std::vector<NamedAnswer> answers = company.ask({.task = task, .path = path});
  if (const auto errors = errors_in(answers); !errors.empty()) return Error{ErrorCode::io, listed(errors)};
  std::vector<std::string> winners;
  std::string winner;
  for (const NamedAnswer& one : answers)
    if (one.answer.made) {
      winners.push_back(one.node);
      winner = one.answer.who;
    }
  if (winners.size() != 1)
    return Error{ErrorCode::mismatch,
                 concat(winners.size(), " of ", answers.size(), " machines made the same file with ", call,
                        winners.empty() ? "" : ": ", listed(winners))};
  const std::vector<NamedAnswer> seen = company.ask({.task = Task::await, .path = path, .content = winner});
  if (const auto errors = errors_in(seen); !errors.empty()) return Error{ErrorCode::timeout, listed(errors)};
  seconds = std::max(seconds, longest(seen));
  return {};
}

void check_creation(Company& company, const std::string& trial, std::vector<Check>& checks) {
  double seconds = 0;
  Status raced;
  for (const Task task : {Task::link, Task::create})
    for (int round = 0; round < rounds && raced.ok(); ++round)
      raced = race(company, task, concat(trial, task == Task::link ? "/link-" : "/create-", round), seconds);
  if (!raced.ok() && raced.error().code == ErrorCode::timeout) {
    checks.push_back(problem("new files", raced.error().message, trust_it));
  } else if (!raced.ok()) {
    checks.push_back(problem("exclusive creation", raced.error().message, trust_it));
  } else {
    checks.push_back(fine("exclusive creation", "of all who made a file at once, one succeeded each time"));
    checks.push_back(judge_delay("new files", seconds));
  }
}

Check check_renames(Company& company, const std::string& trial) {
  const std::string path = trial + "/replaced";
  std::vector<std::string> replacers = {company.who()};
  for (const Crew::Member* member : company.crew().present()) replacers.push_back(member->hello->who);
  replacers.resize(std::min<std::size_t>(replacers.size(), rounds));
  double seconds = 0;
  for (const std::string& by : replacers) {
    const auto replaced =
        errors_in(company.ask({.task = Task::replace, .path = path, .content = by, .by = by}));
    if (!replaced.empty()) return problem("renames", listed(replaced), trust_it);
    const std::vector<NamedAnswer> seen = company.ask({.task = Task::await, .path = path, .content = by});
    if (const auto errors = errors_in(seen); !errors.empty())
      return problem("renames", listed(errors), trust_it);
    seconds = std::max(seconds, longest(seen));
  }
  return judge_delay("renames", seconds);
}

/// The keeper of the trial holds the lock.
Check check_locks(Company& company, const SharedTrial& trial) {
  const char* const mend =
      "nothing keeps a second run, from another machine, out of a run's folder; mount with locks";
  if (!trial.is_locked()) return warning("locks", "this machine cannot lock files there", mend);
  std::vector<std::string> faults;
  for (const NamedAnswer& one : company.ask({.task = Task::lock, .path = trial.lock()})) {
    if (one.answer.made) faults.push_back(concat(one.node, " got the lock that this machine holds"));
    if (!one.answer.error.empty()) faults.push_back(concat(one.node, ": ", one.answer.error));
  }
  if (faults.empty()) return fine("locks", "what one machine holds the others are refused");
  return warning("locks", listed(faults), mend);
}

void check_folder(Company& company, const std::string& folder, StopSignals& signals,
                  std::vector<Check>& checks) {
  const Result<SharedTrial> trial = SharedTrial::start(folder, signals);
  if (!trial.ok()) {
    checks.push_back(
        problem("shared folder", trial.error().message, "see this machine's checks of the folder"));
    return;
  }
  const auto seen = company.ask({.task = Task::await, .path = trial->marker(), .content = trial->mark()});
  if (const auto errors = errors_in(seen); !errors.empty()) {
    checks.push_back(
        problem("shared folder", concat("what this machine made is not seen by ", listed(errors)), share_it));
    return;
  }
  checks.push_back(fine("shared folder", concat("all of ", seen.size(), " machines see ", shown(folder))));
  check_creation(company, trial->path(), checks);
  checks.push_back(check_renames(company, trial->path()));
  checks.push_back(check_locks(company, *trial));
}

}  // namespace

std::vector<Check> examine_together(Crew& crew, const std::string& folder, StopSignals& signals) {
  std::vector<Check> checks = crew.missing();
  if (crew.present().empty() || signals.first() != 0) return checks;
  if (auto names = check_names(crew)) checks.push_back(*std::move(names));
  Company company(crew, signals);
  company.ask_time();
  checks.push_back(check_connections(company));
  check_folder(company, folder, signals, checks);
  return checks;
}

}  // namespace paceline::doctor

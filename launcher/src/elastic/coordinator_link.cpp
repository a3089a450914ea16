#include "elastic/coordinator_link.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "commands.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"
#include "worker_process.hpp"

namespace paceline {
namespace {

constexpr Duration look_interval = std::chrono::milliseconds(50);
constexpr Duration newer_interval = std::chrono::seconds(1);  // while one is there
// A coordinator beats five times a second, but may have to wait for the run directory's disk. One that is
// dead is noticed at once, by the end of the stream.
constexpr Duration silence_limit = std::chrono::seconds(10);
constexpr Duration open_limit = std::chrono::seconds(5);
// From losing a coordinator to starting another: the first agent before the second, and so on (P5).
constexpr Duration succession_delay = std::chrono::milliseconds(300);
constexpr Duration succession_step = std::chrono::milliseconds(500);
constexpr Duration start_again = std::chrono::seconds(1);
constexpr Duration alone_limit = std::chrono::seconds(120);
constexpr int most_failures = 3;

std::string log_of(const std::string& run_dir, std::int64_t term) {
  return concat(run_dir, "/logs/coordinator-", term, ".log");
}

/// What it said last, for people.
std::string last_line(const std::string& path) {
  const Result<std::string> text = read_file(path);
  if (!text.ok()) return "";
  std::string last;
  for (const std::string& line : split(*text, '\n'))
    if (!line.empty()) last = line;
  constexpr std::string_view name = "paceline: ";
  return last.starts_with(name) ? last.substr(name.size()) : last;
}

}  // namespace

CoordinatorLink::CoordinatorLink(std::string run_dir, AgentName name, std::int64_t first_term,
                                 std::function<control::Register()> introduce)
    : run_dir_(std::move(run_dir)),
      name_(std::move(name)),
      first_term_(first_term),
      introduce_(std::move(introduce)),
      alone_since_(clock_.now()),
      succeed_from_(*alone_since_) {
}

CoordinatorLink::~CoordinatorLink() {
  client_.reset();
  // A coordinator outlives the agent that started it.
  for (const pid_t child : former_children_) ::waitpid(child, nullptr, WNOHANG);
  if (child_ > 0) ::waitpid(child_, nullptr, WNOHANG);
}

Result<std::vector<control::ToAgent>> CoordinatorLink::attend() {
  std::vector<control::ToAgent> news;
  PACELINE_TRY(reap_child());
  if (client_) {
    const std::optional<Error> lost = client_->lost();  // before taking: what came first is still heard
    for (control::ToAgent& message : client_->take()) {
      if (!session_ || message.term() != session_->term()) continue;
      heard_at_ = clock_.now();
      if (message.has_notice() && message.notice().refused())
        return Error{ErrorCode::invalid_argument, message.notice().text()};
      if (message.has_registered()) {
        hear_registered(*message.mutable_registered());
      } else if (const auto verdict = session_->hear(message); verdict == Session::Verdict::gap) {
        lose("a message of the coordinator was lost on the way");
        break;
      } else if (verdict == Session::Verdict::known || message.has_heartbeat()) {
        continue;
      }
      news.push_back(std::move(message));
    }
    if (client_ && lost) lose(lost->message);
    if (client_ && !registered_ && clock_.now() - opened_at_ >= open_limit) give_up();
    if (client_ && registered_ && clock_.now() - heard_at_ >= silence_limit)
      lose(concat("the coordinator has been silent for ", to_seconds(silence_limit), " s"));
  }
  if (clock_.now() - looked_at_ >= (client_ ? newer_interval : look_interval)) look_for_coordinator();
  if (!client_ || !registered_) PACELINE_TRY(succeed_if_due());
  return news;
}

void CoordinatorLink::say(control::FromAgent message) {
  if (!session_) return;  // the introduction will say it
  const control::FromAgent sealed = session_->keep(std::move(message));
  if (client_ && registered_) client_->send(sealed);
}

void CoordinatorLink::mention(const control::FromAgent& message) {
  if (client_ && registered_) client_->send(session_->seal(message));
}

/// Whoever has the highest term is in charge.
void CoordinatorLink::look_for_coordinator() {
  looked_at_ = clock_.now();
  const Result<std::optional<control::CoordinatorAddress>> found = control::newest_coordinator(run_dir_);
  if (!found.ok()) {
    problem_ = found.error().message;
    return;
  }
  if (!*found || (*found)->term < first_term_ || (*found)->term <= given_up_) return;
  const bool is_newer = !session_ || (*found)->term > session_->term();
  if (!client_ || is_newer) open(**found);
}

void CoordinatorLink::open(const control::CoordinatorAddress& address) {
  if (!credentials_) {
    Result<control::Credentials> credentials = control::read_credentials(run_dir_);
    if (!credentials.ok()) {
      problem_ = credentials.error().message;
      return;
    }
    credentials_ = std::move(*credentials);
  }
  Result<std::unique_ptr<control::Client>> client = control::Client::open(address, *credentials_);
  if (!client.ok()) {
    problem_ = client.error().message;
    return;
  }
  client_ = std::move(*client);
  opened_at_ = clock_.now();
  registered_ = false;
  if (!session_ || session_->term() != address.term || !known_) {
    session_.emplace(address.term);
    ++session_number_;
    known_ = false;
  }
  control::FromAgent message;
  *message.mutable_register_() = introduce_();
  message.mutable_register_()->set_agent(name_.name);
  message.mutable_register_()->set_index(name_.index);
  message.mutable_register_()->set_session(session_number_);
  client_->send(session_->seal(message));
}

void CoordinatorLink::hear_registered(control::Registered& registered) {
  registered_ = true;
  alone_since_.reset();
  failures_ = 0;
  const bool given_up = known_ && !registered.again();
  if (given_up) session_.emplace(session_->term());
  known_ = true;
  registered.set_again(!given_up);
  for (const control::FromAgent& kept : session_->kept()) client_->send(session_->seal(kept));
}

void CoordinatorLink::lose(const std::string& why) {
  log(LogLevel::info, why);
  problem_ = why;
  client_.reset();
  registered_ = false;
  if (!alone_since_) alone_since_ = succeed_from_ = clock_.now();
}

/// It is there and says nothing: frozen, or out of reach. Asking it again and again would bring nobody else.
void CoordinatorLink::give_up() {
  given_up_ = session_->term();
  lose("the coordinator does not answer");
  succeed_from_ = clock_.now();
}

// ---- succession -------------------------------------------------------------------------------------

Status CoordinatorLink::succeed_if_due() {
  const Instant now = clock_.now();
  if (alone_since_ && now - *alone_since_ >= alone_limit)
    return Error{ErrorCode::timeout, concat("the job has had no coordinator for ", to_seconds(alone_limit),
                                            " s; the last problem: ", problem_)};
  if (client_ || child_ > 0 || now < start_after_ || !alone_since_) return {};
  // The first coordinator is the first agent's to start.
  if (!session_ && name_.index > 0) return {};
  const Duration delay = session_ ? succession_delay + name_.index * succession_step : Duration::zero();
  if (now - succeed_from_ < delay) return {};
  return start_coordinator();
}

Status CoordinatorLink::start_coordinator() {
  child_after_ = session_ ? session_->term() : first_term_ - 1;
  const std::string after = concat(child_after_), log_path = log_of(run_dir_, child_after_ + 1);
  const std::string self = concat(::getpid());
  std::string program = "/proc/self/exe";
  const char* const arguments[] = {"paceline",    "coordinator", run_dir_.c_str(), "--after",
                                   after.c_str(), "--starter",   self.c_str(),     nullptr};
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&files, 1, log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  ::posix_spawn_file_actions_adddup2(&files, 1, 2);
  ::posix_spawn_file_actions_addclosefrom_np(&files, 3);
  sigset_t none;
  ::sigemptyset(&none);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  // A session of its own: what ends this agent, or the terminal, is not to end the coordinator.
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
  const int failed = ::posix_spawn(&child_, program.c_str(), &files, &attributes,
                                   const_cast<char* const*>(arguments), ::environ);
  ::posix_spawn_file_actions_destroy(&files);
  ::posix_spawnattr_destroy(&attributes);
  if (failed == 0) return {};
  child_ = -1;
  return system_error("cannot start a coordinator", failed);
}

/// One that has ended before it was in charge; one that was is noticed by its stream.
Status CoordinatorLink::reap_child() {
  std::erase_if(former_children_, [](pid_t pid) { return ::waitpid(pid, nullptr, WNOHANG) != 0; });
  if (child_ <= 0) return {};
  if (session_ && session_->term() > child_after_) {
    // From here on it is like any other, and must not keep this agent from starting a successor.
    former_children_.push_back(std::exchange(child_, -1));
    return {};
  }
  int status = 0;
  if (::waitpid(child_, &status, WNOHANG) != child_) return {};
  child_ = -1;
  start_after_ = clock_.now() + start_again;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  const std::string said = last_line(log_of(run_dir_, child_after_ + 1));
  if (WIFEXITED(status) && WEXITSTATUS(status) == exit_job_has_ended) return Error{ErrorCode::aborted, said};
  problem_ = concat("the coordinator ", describe_end(status), said.empty() ? "" : ": ", said);
  // What kept the first one from beginning keeps the next one too, unless it was killed.
  const bool is_hopeless = !session_ && WIFEXITED(status);
  if (++failures_ < most_failures && !is_hopeless) return {};
  return Error{ErrorCode::io, problem_};
}

}  // namespace paceline

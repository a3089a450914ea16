#include "doctor/orders.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "doctor/child.hpp"
#include "doctor/file_checks.hpp"
#include "paceline/base/text.hpp"

namespace paceline::doctor {
namespace {

// Shorter than answer_limit.
constexpr Duration work_limit = std::chrono::seconds(20);
constexpr Duration await_limit = std::chrono::seconds(10);
constexpr Duration connect_limit = std::chrono::seconds(5);
constexpr Duration look_interval = std::chrono::milliseconds(10);

struct Attempt {
  const Endpoint* endpoint;  // does not own; the order's
  UniqueFd socket;
  int error = 0;
  bool pending = false;
};

Attempt begin(const Endpoint& endpoint) {
  Attempt attempt{&endpoint, UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0))};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(endpoint.port);
  if (::inet_pton(AF_INET, endpoint.host.c_str(), &address.sin_addr) != 1) {
    attempt.error = EINVAL;
    return attempt;
  }
  if (::connect(attempt.socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0)
    return attempt;
  attempt.pending = errno == EINPROGRESS;
  if (!attempt.pending) attempt.error = errno;
  return attempt;
}

void conclude(Attempt& attempt) {
  socklen_t length = sizeof attempt.error;
  ::getsockopt(attempt.socket.get(), SOL_SOCKET, SO_ERROR, &attempt.error, &length);
  attempt.pending = false;
}

/// Those that did not come about, and why.
std::vector<std::string> try_to_connect(const std::vector<Endpoint>& endpoints) {
  std::vector<Attempt> attempts;
  for (const Endpoint& endpoint : endpoints) attempts.push_back(begin(endpoint));
  const SteadyClock clock;
  const Deadline deadline(clock, connect_limit);
  std::size_t pending = 0;
  do {
    std::vector<pollfd> entries;
    for (const Attempt& attempt : attempts)
      entries.push_back({attempt.pending ? attempt.socket.get() : -1, POLLOUT, 0});
    ::poll(entries.data(), entries.size(), deadline.left_ms());
    pending = 0;
    for (std::size_t i = 0; i < attempts.size(); ++i) {
      if (entries[i].revents != 0) conclude(attempts[i]);
      pending += attempts[i].pending ? 1 : 0;
    }
  } while (pending > 0 && !deadline.passed());
  std::vector<std::string> missed;
  for (const Attempt& attempt : attempts) {
    if (attempt.pending || attempt.error != 0)
      missed.push_back(concat(attempt.endpoint->node, " at ", attempt.endpoint->host, ":",
                              attempt.endpoint->port, " (",
                              std::strerror(attempt.pending ? ETIMEDOUT : attempt.error), ")"));
  }
  return missed;
}

void await_content(const Order& order, Answer& answer) {
  const SteadyClock clock;
  const Instant begin = clock.now();
  const Deadline deadline(clock, await_limit);
  while (true) {
    const Result<std::string> text = read_file(order.path);
    answer.seconds = to_seconds(clock.now() - begin);
    if (text.ok() && *text == order.content) return;
    if (deadline.passed()) {
      answer.error = text.ok()
                         ? concat(shown(order.path), " has old content after ", to_seconds(await_limit), " s")
                         : text.error().message;
      return;
    }
    std::this_thread::sleep_for(look_interval);
  }
}

/// As many as people read, and as slurmstepd hands on in one line.
std::vector<std::string> few_of(std::vector<std::string> names) {
  constexpr std::size_t few = 3;
  if (names.size() <= few) return names;
  const std::size_t others = names.size() - few;
  names.resize(few);
  names.push_back(concat(others, others == 1 ? " other machine" : " other machines"));
  return names;
}

void note(const Status& status, Answer& answer) {
  answer.made = status.ok();
  if (!status.ok() && status.error().code != ErrorCode::already_exists) answer.error = status.error().message;
}

Answer work(const Order& order, Answer answer) {
  switch (order.task) {
    case Task::tell_time: break;
    case Task::connect: answer.missed = few_of(try_to_connect(order.endpoints)); break;
    case Task::look: answer.made = read_file(order.path).ok(); break;
    case Task::await: await_content(order, answer); break;
    case Task::link: note(write_file_once(order.path, answer.who), answer); break;
    case Task::create: note(create_exclusively(order.path, answer.who), answer); break;
    case Task::replace: note(write_file_atomically(order.path, order.content), answer); break;
    case Task::lock: {
      const Result<UniqueFd> lock = lock_file(order.path);
      note(lock.ok() ? Status() : Status(lock.error()), answer);
      break;
    }
  }
  return answer;
}

}  // namespace

Answer carry_out(const Order& order, const std::string& who, StopSignals& signals) {
  Answer answer{.number = order.number, .who = who};
  answer.time = seconds_since_1970();
  if (order.task == Task::tell_time || (!order.by.empty() && order.by != who)) return answer;
  const Result<std::string> done =
      in_child([&] { return to_json(work(order, answer)); }, work_limit, signals);
  Result<Answer> told = done.ok() ? parse_answer(*done) : Result<Answer>(done.error());
  if (told.ok()) return std::move(told).value();
  answer.error = told.error().code == ErrorCode::timeout
                     ? concat("no answer within ", to_seconds(work_limit), " s")
                     : told.error().message;
  return answer;
}

}  // namespace paceline::doctor

#include "agent_link.hpp"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr Duration heartbeat_interval = std::chrono::milliseconds(100);

std::string reason_to_leave(std::int64_t generation) {
  return concat("the coordinator ends generation ", generation);
}

}  // namespace

AgentLink::Interruption::Interruption(AgentLink& link, std::int64_t generation,
                                      std::function<void(const std::string&)> interrupt)
    : link_(link), generation_(generation), interrupt_(std::move(interrupt)) {
  const std::lock_guard lock(link_.mutex_);
  if (link_.leave_ >= generation_)
    interrupt_(reason_to_leave(generation_));
  else
    link_.interruptions_.push_back(this);
}

AgentLink::Interruption::~Interruption() {
  const std::lock_guard lock(link_.mutex_);
  std::erase(link_.interruptions_, this);
}

AgentLink::~AgentLink() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  ::shutdown(channel_.fd(), SHUT_RD);  // wakes the thread; what is to be sent still is
  if (thread_.joinable()) thread_.join();
}

void AgentLink::start() {
  thread_ = std::thread([this] { receive(); });
}

Status AgentLink::send(const WorkerMessage& message) {
  const std::lock_guard lock(send_mutex_);
  return channel_.send(message);
}

/// Not behind what the agent has not read yet: it knows of this worker already, and a socket that is full of
/// heartbeats would hold up what must be said.
void AgentLink::beat() {
  int unread = 0;
  if (::ioctl(channel_.fd(), SIOCOUTQ, &unread) == 0 && unread > 0) return;
  const std::lock_guard lock(send_mutex_);
  // An agent that is gone shows when something is to be heard from it.
  [[maybe_unused]] const Status sent = channel_.send(activity_.read(), Duration::zero());
}

void AgentLink::receive() {
  const SteadyClock clock;
  Instant next = clock.now();
  while (true) {
    if (clock.now() >= next) {
      if (beats_) beat();
      next = clock.now() + heartbeat_interval;
    }
    Result<std::optional<WorkerMessage>> message =
        channel_.receive(std::max(next - clock.now(), Duration::zero()));
    const std::lock_guard lock(mutex_);
    if (stop_) return;
    if (message.ok() && !message->has_value()) continue;
    if (!message.ok())
      end_ = message.error();
    else if (const auto* leave = std::get_if<LeaveMessage>(&**message))
      obey(*leave);
    else
      messages_.push_back(std::move(**message));
    came_.notify_all();
    if (end_) return;
  }
}

void AgentLink::obey(const LeaveMessage& leave) {
  leave_ = std::max(leave_, leave.generation);
  for (auto each = interruptions_.begin(); each != interruptions_.end();) {
    const Interruption& one = **each;
    if (one.generation_ > leave_) {
      ++each;
      continue;
    }
    one.interrupt_(reason_to_leave(one.generation_));
    each = interruptions_.erase(each);
  }
}

Result<std::optional<WorkerMessage>> AgentLink::take(Duration timeout) {
  std::unique_lock lock(mutex_);
  const auto ready = [this] { return !messages_.empty() || end_.has_value(); };
  if (timeout == Duration::zero() ? !ready() : !came_.wait_for(lock, timeout, ready))
    return std::optional<WorkerMessage>();
  if (messages_.empty()) return *end_;
  std::optional<WorkerMessage> message(std::move(messages_.front()));
  messages_.pop_front();
  return message;
}

bool AgentLink::must_leave(std::int64_t generation) const {
  const std::lock_guard lock(mutex_);
  return leave_ >= generation;
}

}  // namespace paceline

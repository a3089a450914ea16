#include "watch.hpp"

#include <algorithm>

#include "paceline/base/text.hpp"

namespace paceline {

bool is_consequence(const WorkerFault& fault) {
  if (fault.kind != WorkerFault::Kind::failed) return false;
  if (fault.failed.lost_rank >= 0) return fault.failed.lost_rank != fault.rank;
  return fault.failed.code == to_string(ErrorCode::peer_lost) ||
         fault.failed.code == to_string(ErrorCode::aborted);
}

std::optional<WorkerFault> root_cause(const std::vector<WorkerFault>& faults) {
  const auto before = [](const WorkerFault& a, const WorkerFault& b) {
    if (is_consequence(a) != is_consequence(b)) return is_consequence(b);
    return a.at < b.at;
  };
  const auto first = std::min_element(faults.begin(), faults.end(), before);
  if (first == faults.end()) return std::nullopt;
  return *first;
}

Watch::Watch(std::vector<std::int64_t> ranks, Instant start, WatchLimits limits)
    : limits_(limits), start_(start) {
  for (const std::int64_t rank : ranks) workers_.push_back({.rank = rank});
}

void Watch::on_hello(std::size_t worker) {
  workers_[worker].greeted = true;
}

void Watch::on_finished(std::size_t worker, const FinishedMessage& message, Instant now) {
  workers_[worker].finished = message;
  workers_[worker].finished_at = now;
  if (!first_finished_) first_finished_ = now;
}

void Watch::on_failed(std::size_t worker, const FailedMessage& message, Instant now) {
  fault({.kind = WorkerFault::Kind::failed, .worker = worker, .failed = message, .at = now});
}

void Watch::on_broken(std::size_t worker, const std::string& detail, Instant now) {
  fault({.kind = WorkerFault::Kind::broken, .worker = worker, .detail = detail, .at = now});
}

void Watch::on_closed(std::size_t worker, Instant now) {
  workers_[worker].closed_at = now;
}

void Watch::on_killed(std::size_t worker, int signal, Instant now) {
  leave(worker, {.kind = WorkerFault::Kind::killed, .worker = worker, .number = signal, .at = now});
}

void Watch::on_exited(std::size_t worker, int status, Instant now) {
  leave(worker, {.kind = WorkerFault::Kind::exited, .worker = worker, .number = status, .at = now});
}

void Watch::leave(std::size_t worker, WorkerFault fault_if_unexpected) {
  Worker& state = workers_[worker];
  state.gone = true;
  if (!state.finished) fault(std::move(fault_if_unexpected));
}

void Watch::fault(WorkerFault fault) {
  Worker& state = workers_[fault.worker];
  // The first fault of a worker explains the later ones, and what we kill has not failed.
  if (state.faulty || state.ordered_dead) return;
  state.faulty = true;
  fault.rank = state.rank;
  faults_.push_back(std::move(fault));
}

void Watch::on_stop_signal(int signal, Instant now) {
  if (stop_at_) {
    stop_now_ = true;
    return;
  }
  stop_at_ = now;
  stop_signal_ = signal;
}

bool Watch::all_gone() const {
  return std::all_of(workers_.begin(), workers_.end(), [](const Worker& worker) { return worker.gone; });
}

void Watch::find_overdue(Instant now) {
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    const Worker& worker = workers_[i];
    if (worker.gone || worker.finished) continue;
    if (!worker.greeted && now >= start_ + limits_.hello)
      on_broken(i, concat("did not report within ", to_seconds(limits_.hello), " s of its start"), now);
    else if (worker.closed_at && now >= *worker.closed_at + limits_.leave)
      on_broken(i, concat("closed its socket but was still there ", to_seconds(limits_.leave), " s later"),
                now);
    else if (first_finished_ && now >= *first_finished_ + limits_.stragglers)
      on_broken(i, concat("was still not finished ", to_seconds(limits_.stragglers), " s after another rank"),
                now);
  }
}

void Watch::kill_all(WatchOrders& orders, Instant now) {
  kill_at_ = now;
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    if (workers_[i].gone || workers_[i].ordered_dead) continue;
    workers_[i].ordered_dead = true;
    orders.kill.push_back(i);
  }
}

void Watch::kill_loiterers(WatchOrders& orders, Instant now) {
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    Worker& worker = workers_[i];
    if (worker.gone || worker.ordered_dead || !worker.finished_at) continue;
    if (now < *worker.finished_at + limits_.leave) continue;
    worker.ordered_dead = true;
    orders.kill.push_back(i);
    orders.note = concat("rank ", worker.rank, " had finished but did not exit, and was killed");
  }
}

WatchOrders Watch::next(Instant now) {
  WatchOrders orders;
  if (all_gone()) {
    orders.done = true;
    return orders;
  }
  if (kill_at_) {
    orders.done = now >= *kill_at_ + limits_.reap;
    if (orders.done) orders.note = "a worker could not be killed: it waits inside the kernel";
    orders.wake = *kill_at_ + limits_.reap;
    return orders;
  }
  find_overdue(now);
  kill_loiterers(orders, now);
  if (stop_at_ && !stop_sent_) orders.send_stop = stop_sent_ = true;
  if (stop_at_ && now >= *stop_at_ + limits_.stop && !stop_now_) {
    stop_now_ = stop_overdue_ = true;
    orders.note = concat("the ranks did not stop within ", to_seconds(limits_.stop), " s, and were killed");
  }
  const bool words_over = !faults_.empty() && now >= faults_.front().at + limits_.last_words;
  if (stop_now_ || words_over) kill_all(orders, now);
  orders.wake = next_deadline();
  return orders;
}

std::optional<Instant> Watch::next_deadline() const {
  std::optional<Instant> next;
  const auto consider = [&next](Instant at) { next = next ? std::min(*next, at) : at; };
  if (kill_at_) {
    consider(*kill_at_ + limits_.reap);
    return next;
  }
  if (!faults_.empty()) consider(faults_.front().at + limits_.last_words);
  if (stop_at_) consider(*stop_at_ + limits_.stop);
  for (const Worker& worker : workers_) {
    if (worker.gone || worker.ordered_dead) continue;
    if (worker.finished_at) consider(*worker.finished_at + limits_.leave);
    if (worker.closed_at) consider(*worker.closed_at + limits_.leave);
    if (!worker.finished && !worker.greeted) consider(start_ + limits_.hello);
    if (!worker.finished && first_finished_) consider(*first_finished_ + limits_.stragglers);
  }
  return next;
}

std::string Watch::status() const {
  const bool finished = std::all_of(workers_.begin(), workers_.end(),
                                    [](const Worker& worker) { return worker.finished.has_value(); });
  if (finished) {
    const bool stopped = std::any_of(workers_.begin(), workers_.end(), [](const Worker& worker) {
      return worker.finished->status == "stopped";
    });
    return stopped ? "stopped" : "completed";
  }
  // Between ranks that are told to stop, who leaves first looks lost to the others. But a launcher stops the
  // rest of a job that has lost a rank: then the loss came first.
  const std::optional<WorkerFault> cause = root_cause(faults_);
  if (stop_at_ && (!cause || (is_consequence(*cause) && cause->at >= *stop_at_))) return "stopped";
  return "failed";
}

std::optional<WorkerFault> Watch::cause() const {
  if (status() != "failed") return std::nullopt;
  return root_cause(faults_);
}

}  // namespace paceline

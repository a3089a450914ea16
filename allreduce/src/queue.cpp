#include "queue.hpp"

#include <algorithm>

#include "paceline/base/text.hpp"

namespace paceline {

OperationQueue::~OperationQueue() {
  close({ErrorCode::aborted, "the communicator was closed"});
}

Status OperationQueue::run(const Request& request) {
  std::unique_lock lock(mutex_);
  if (pending_.empty() && !carrying_) {  // nothing to queue behind, and nothing to allocate
    ++begun_;
    Request own = request;
    return carry(own, lock, true);
  }
  lock.unlock();
  const std::shared_ptr<Item> item = submit(request);
  return wait(*item);
}

std::shared_ptr<OperationQueue::Item> OperationQueue::submit(const Request& request) {
  auto item = std::make_shared<Item>();
  item->request = request;
  {
    const std::lock_guard lock(mutex_);
    item->number = begun_++;
    pending_.push_back(item);
    if (background_ && !thread_.joinable()) thread_ = std::thread([this] { serve(); });
  }
  changed_.notify_one();
  return item;
}

Status OperationQueue::wait(Item& item) {
  if (item.done.load(std::memory_order_acquire)) return item.status;
  std::unique_lock lock(mutex_);
  ++waiting_;
  while (!item.done.load()) {
    if (!carrying_ && !pending_.empty())
      carry_next(lock, true);
    else
      changed_.wait(lock);  // whoever carries something out ends it by its deadline
  }
  --waiting_;
  return item.status;
}

bool OperationQueue::idle() {
  const std::lock_guard lock(mutex_);
  return pending_.empty() && !carrying_;
}

bool OperationQueue::if_at_rest(const std::function<void()>& action) {
  const std::lock_guard lock(mutex_);
  if (carrying_) return false;
  action();
  return true;
}

void OperationQueue::close(const Error& error) {
  std::unique_lock lock(mutex_);
  closing_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return !carrying_; });
  for (const std::shared_ptr<Item>& item : pending_) {
    item->status = error;
    item->done.store(true, std::memory_order_release);
  }
  pending_.clear();
  changed_.notify_all();
  lock.unlock();
  if (thread_.joinable()) thread_.join();
}

/// Among what all ranks have begun, the highest priority; otherwise what was begun first.
std::shared_ptr<OperationQueue::Item> OperationQueue::take_next() {
  auto next = pending_.begin();
  for (auto item = pending_.begin(); item != pending_.end() && (*item)->number < agreed_; ++item)
    if ((*item)->request.descriptor.priority > (*next)->request.descriptor.priority) next = item;
  std::shared_ptr<Item> taken = std::move(*next);
  pending_.erase(next);
  return taken;
}

void OperationQueue::carry_next(std::unique_lock<std::mutex>& lock, bool may_spin) {
  const std::shared_ptr<Item> item = take_next();
  item->status = carry(item->request, lock, may_spin);
  item->done.store(true, std::memory_order_release);
  changed_.notify_all();
}

Status OperationQueue::carry(Request& request, std::unique_lock<std::mutex>& lock, bool may_spin) {
  carrying_ = true;
  std::uint64_t submitted = begun_;
  lock.unlock();
  Status status = carry_(request, submitted, may_spin);
  lock.lock();
  carrying_ = false;
  agreed_ = std::max(agreed_, submitted);
  if (waiting_ > 0 || closing_ || !pending_.empty()) changed_.notify_all();
  return status;
}

void OperationQueue::serve() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return closing_ || (!carrying_ && !pending_.empty()); });
    if (closing_) return;
    // Not spinning: this thread often shares its core with the one that computes.
    carry_next(lock, false);
  }
}

}  // namespace paceline

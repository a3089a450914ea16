#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

#include "paceline/base/assert.hpp"
#include "read_engine.hpp"

namespace paceline {
namespace {

ReadEnd carry_out(const Read& read) {
  ReadEnd end{read.tag, 0, 0};
  while (end.got < read.bytes) {
    const auto left = static_cast<std::size_t>(read.bytes - end.got);
    const ssize_t got = ::pread(read.fd, read.into + end.got, left, read.offset + end.got);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) end.error_number = errno;
    if (got <= 0) break;
    end.got += got;
  }
  return end;
}

/// What the engine and its threads share. A thread whose read does not return outlives the engine, so it owns
/// this together with it.
struct Shared {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Read> waiting;
  std::vector<ReadEnd> ended;
  int idle = 0;
  bool woken = false;
  bool leaving = false;
};

void serve(const std::shared_ptr<Shared>& shared) {
  std::unique_lock lock(shared->mutex);
  while (true) {
    ++shared->idle;
    shared->changed.wait(lock, [&] { return shared->leaving || !shared->waiting.empty(); });
    --shared->idle;
    if (shared->leaving) return;
    const Read read = std::move(shared->waiting.front());
    shared->waiting.pop_front();
    lock.unlock();
    const ReadEnd end = carry_out(read);
    lock.lock();
    shared->ended.push_back(end);
    shared->changed.notify_all();
  }
}

class ThreadReads final : public ReadEngine {
 public:
  explicit ThreadReads(int depth) : depth_(depth) {}

  ~ThreadReads() override {
    const std::lock_guard lock(shared_->mutex);
    shared_->leaving = true;
    shared_->changed.notify_all();
  }

  void submit(Read read) override {
    PACELINE_ASSERT(under_way_ < depth_, "no more reads than there may be threads");
    ++under_way_;
    std::unique_lock lock(shared_->mutex);
    shared_->waiting.push_back(std::move(read));
    const bool short_of_threads =
        shared_->idle < static_cast<int>(shared_->waiting.size()) && threads_ < depth_;
    shared_->changed.notify_all();
    lock.unlock();
    if (short_of_threads) start_thread();
  }

  void collect(std::vector<ReadEnd>& ended, Instant until) override {
    std::unique_lock lock(shared_->mutex);
    shared_->changed.wait_until(lock, until, [&] { return shared_->woken || !shared_->ended.empty(); });
    shared_->woken = false;
    under_way_ -= static_cast<int>(shared_->ended.size());
    ended.insert(ended.end(), shared_->ended.begin(), shared_->ended.end());
    shared_->ended.clear();
  }

  void wake() noexcept override {
    const std::lock_guard lock(shared_->mutex);
    shared_->woken = true;
    shared_->changed.notify_all();
  }

  [[nodiscard]] int under_way() const noexcept override { return under_way_; }

 private:
  void start_thread() {
    try {
      std::thread(serve, shared_).detach();  // a read that hangs must not hold up the end of the engine
      ++threads_;
    } catch (const std::system_error&) {
      if (threads_ == 0) read_here();  // fewer threads do the same, only slower; none, and it is done here
    }
  }

  void read_here() {
    std::unique_lock lock(shared_->mutex);
    const Read read = std::move(shared_->waiting.front());
    shared_->waiting.pop_front();
    lock.unlock();
    const ReadEnd end = carry_out(read);
    lock.lock();
    shared_->ended.push_back(end);
  }

  int depth_;
  int threads_ = 0;
  int under_way_ = 0;
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

}  // namespace

std::unique_ptr<ReadEngine> make_thread_reads(int depth) {
  return std::make_unique<ThreadReads>(depth);
}

}  // namespace paceline

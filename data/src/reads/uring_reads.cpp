#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <map>

#include "paceline/base/assert.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/data/loader.hpp"
#include "read_engine.hpp"

namespace paceline {
namespace {

// Tags of our own must not meet the caller's, so reads are numbered here and found again by their number.
constexpr std::uint64_t doorbell = 0;
constexpr std::uint64_t cancellation = 1;
constexpr std::uint64_t first_number = 2;
constexpr Duration farewell = std::chrono::milliseconds(200);
// A single read of io_uring is limited to 32 bits.
constexpr std::int64_t most_at_once = std::int64_t{1} << 30;

// A ring's memory may have been that of a ring which another thread has closed. The kernel orders the two
// uses, but liburing's system calls are hidden from ThreadSanitizer; this tells it.
std::atomic<std::uint64_t> rings_closed{0};
std::atomic<std::int64_t> bytes_read{0};

class UringReads final : public ReadEngine {
 public:
  UringReads(UniqueFd bell, int depth) : bell_(std::move(bell)), depth_(depth) {}

  /// 0 or an error number.
  [[nodiscard]] int open() {
    const int failed = ::io_uring_queue_init(static_cast<unsigned>(depth_) + 2, &ring_, 0);
    if (failed < 0) return -failed;
    (void)rings_closed.load(std::memory_order_acquire);
    open_ = true;
    arm_bell();
    return 0;
  }

  ~UringReads() override {
    if (!open_) return;
    cancel_all();
    rings_closed.fetch_add(1, std::memory_order_release);
    ::io_uring_queue_exit(&ring_);
    // What the kernel may still write to is given up rather than freed.
    for (auto& [number, read] : reads_) [[maybe_unused]] auto* leaked = new auto(std::move(read.keeps));
  }

  void submit(Read read) override {
    PACELINE_ASSERT(under_way() < depth_, "no more reads than the ring has room for");
    const std::uint64_t number = next_number_++;
    begin(number, reads_.emplace(number, Pending{std::move(read), 0}).first->second);
  }

  void collect(std::vector<ReadEnd>& ended, Instant until) override {
    const SteadyClock clock;
    reap(ended);
    while (ended.empty() && !woken_) {
      const Duration left = until - clock.now();
      if (left <= Duration::zero()) break;
      const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(
          std::min<Duration>(left, std::chrono::hours(1)));
      __kernel_timespec limit{ns.count() / 1'000'000'000, ns.count() % 1'000'000'000};
      io_uring_cqe* first = nullptr;
      ::io_uring_wait_cqe_timeout(&ring_, &first, &limit);  // errors show as nothing to reap
      reap(ended);
    }
    woken_ = false;
  }

  void wake() noexcept override {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written =
        ::write(bell_.get(), &one, sizeof one);  // full: it rings already
  }

  [[nodiscard]] int under_way() const noexcept override { return static_cast<int>(reads_.size()); }

 private:
  struct Pending : Read {
    Pending(Read read, std::int64_t done_) : Read(std::move(read)), done(done_) {}
    std::int64_t done;
  };

  io_uring_sqe* entry() {
    io_uring_sqe* sqe = ::io_uring_get_sqe(&ring_);
    PACELINE_ASSERT(sqe != nullptr, "the ring has an entry for every read, the bell and a cancellation");
    return sqe;
  }

  void begin(std::uint64_t number, const Pending& read) {
    io_uring_sqe* sqe = entry();
    const auto bytes = static_cast<unsigned>(std::min(read.bytes - read.done, most_at_once));
    ::io_uring_prep_read(sqe, read.fd, read.into + read.done, bytes,
                         static_cast<std::uint64_t>(read.offset + read.done));
    ::io_uring_sqe_set_data64(sqe, number);
    ::io_uring_submit(&ring_);
  }

  void arm_bell() {
    io_uring_sqe* sqe = entry();
    ::io_uring_prep_read(sqe, bell_.get(), &bell_count_, sizeof bell_count_, 0);
    ::io_uring_sqe_set_data64(sqe, doorbell);
    ::io_uring_submit(&ring_);
    bell_armed_ = true;
  }

  void reap(std::vector<ReadEnd>& ended) {
    io_uring_cqe* cqe = nullptr;
    while (::io_uring_peek_cqe(&ring_, &cqe) == 0) {
      const std::uint64_t number = cqe->user_data;
      const int result = cqe->res;
      ::io_uring_cqe_seen(&ring_, cqe);
      if (number == doorbell) {
        woken_ = true;
        bell_armed_ = false;
        if (!leaving_) arm_bell();
      } else if (number != cancellation) {
        finish(number, result, ended);
      }
    }
  }

  void finish(std::uint64_t number, int result, std::vector<ReadEnd>& ended) {
    const auto found = reads_.find(number);
    PACELINE_ASSERT(found != reads_.end(), "only reads that were begun end");
    Pending& read = found->second;
    if (result > 0) {
      read.done += result;
      bytes_read.fetch_add(result, std::memory_order_relaxed);
    }
    const bool again = result == -EINTR || result == -EAGAIN || (result > 0 && read.done < read.bytes);
    if (again && !leaving_) return begin(number, read);
    ended.push_back({read.tag, read.done, result < 0 ? -result : 0});
    reads_.erase(found);
  }

  void cancel_all() {
    leaving_ = true;
    io_uring_sqe* sqe = entry();
    ::io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
    ::io_uring_sqe_set_data64(sqe, cancellation);
    ::io_uring_submit(&ring_);
    std::vector<ReadEnd> unread;
    const SteadyClock clock;
    for (const Instant end = clock.now() + farewell; (bell_armed_ || !reads_.empty()) && clock.now() < end;) {
      collect(unread, std::min(end, clock.now() + std::chrono::milliseconds(10)));
      unread.clear();
    }
  }

  UniqueFd bell_;
  int depth_;
  io_uring ring_{};
  bool open_ = false;
  bool woken_ = false;
  bool bell_armed_ = false;
  bool leaving_ = false;
  std::uint64_t bell_count_ = 0;
  std::uint64_t next_number_ = first_number;
  std::map<std::uint64_t, Pending> reads_;
};

}  // namespace

std::int64_t bytes_read_by_io_uring() noexcept {
  return bytes_read.load(std::memory_order_relaxed);
}

Result<std::unique_ptr<ReadEngine>> make_uring_reads(int depth) {
  UniqueFd bell(::eventfd(0, EFD_CLOEXEC));
  if (!bell.valid()) return system_error("cannot make an eventfd");
  auto reads = std::make_unique<UringReads>(std::move(bell), depth);
  if (const int error_number = reads->open(); error_number != 0)
    return Error{ErrorCode::unsupported, system_error("io_uring cannot be used", error_number).message};
  return std::unique_ptr<ReadEngine>(std::move(reads));
}

}  // namespace paceline

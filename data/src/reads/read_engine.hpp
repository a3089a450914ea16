#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "paceline/base/clock.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// One read: all of `bytes` bytes at `offset`, or as many as the file has.
struct Read {
  std::uint64_t tag = 0;  ///< of the caller's choice, to tell the results apart
  int fd = -1;
  std::byte* into = nullptr;
  std::int64_t bytes = 0;
  std::int64_t offset = 0;
  /// Owns what must live until the read has ended: the memory and the file. A read that never returns (a
  /// network filesystem that is gone) keeps it for good, which is the price of not waiting for ever.
  std::shared_ptr<const void> keeps;
};

struct ReadEnd {
  std::uint64_t tag = 0;
  std::int64_t got = 0;  ///< fewer than asked for: the file ends there
  int error_number = 0;  ///< 0: none
};

/// Many large reads at once, of one thread. Each backend has one factory below. All members but wake() are
/// called by one thread.
class ReadEngine {
 public:
  virtual ~ReadEngine() = default;
  ReadEngine(const ReadEngine&) = delete;
  ReadEngine& operator=(const ReadEngine&) = delete;

  /// Begins a read. What is in the page cache may be copied before this returns. At most `depth` are under
  /// way.
  virtual void submit(Read read) = 0;
  /// Appends the reads that have ended to `ended`. Where none has, waits for one, for wake(), or until
  /// `until`; an `until` in the past only looks.
  virtual void collect(std::vector<ReadEnd>& ended, Instant until) = 0;
  /// Ends the current or else the next collect() early. Any thread.
  virtual void wake() noexcept = 0;
  [[nodiscard]] virtual int under_way() const noexcept = 0;

 protected:
  ReadEngine() = default;
};

/// Linux's io_uring. unsupported where the kernel, a seccomp filter or a limit does not let it.
[[nodiscard]] Result<std::unique_ptr<ReadEngine>> make_uring_reads(int depth);
/// pread on threads of its own.
[[nodiscard]] std::unique_ptr<ReadEngine> make_thread_reads(int depth);

/// io_uring where it is there, threads otherwise. PACELINE_READS=threads or io_uring forces one of them.
[[nodiscard]] Result<std::unique_ptr<ReadEngine>> make_reads(int depth);

}  // namespace paceline

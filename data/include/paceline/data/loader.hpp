#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "paceline/base/clock.hpp"
#include "paceline/base/result.hpp"
#include "paceline/data/dataset.hpp"
#include "paceline/data/order.hpp"

namespace paceline {

/// What the loader is asked for: positions [first, first + count) of one epoch's order.
struct LoadRequest {
  std::int64_t epoch = 0;
  std::int64_t first = 0;
  std::int64_t count = 0;
  friend bool operator==(const LoadRequest&, const LoadRequest&) = default;
};

/// Samples in the order of their positions, as views into chunks that the batch keeps alive: nothing was
/// copied.
class SampleBatch {
 public:
  [[nodiscard]] const LoadRequest& request() const noexcept { return request_; }
  [[nodiscard]] std::int64_t size() const noexcept { return request_.count; }
  /// The sample at position request().first + i, as Chunk::sample gives it.
  [[nodiscard]] std::span<const std::byte> sample(std::int64_t i) const noexcept {
    const View& view = views_[static_cast<std::size_t>(i)];
    return {view.data, view.bytes};
  }
  [[nodiscard]] std::int32_t label(std::int64_t i) const noexcept {
    return views_[static_cast<std::size_t>(i)].label;
  }

  /// For LoaderOptions::finish: what it made of the samples, and a number that it took from them.
  std::vector<float> values;
  std::uint64_t consumed = 0;
  std::shared_ptr<void> companion;  ///< where it keeps what it made elsewhere

 private:
  friend class BatchMaker;
  struct View {
    const std::byte* data;
    std::uint32_t bytes;
    std::int32_t label;
  };
  LoadRequest request_;
  std::vector<View> views_;
  std::vector<std::shared_ptr<const Chunk>> chunks_;
};

struct LoaderOptions {
  OrderSpec order;
  /// Of chunks in memory, and of memory kept for more of them; a request's own always fit.
  std::int64_t budget_bytes = std::int64_t{256} << 20;
  int threads = 1;   ///< that read, check and decode; one keeps far ahead of a CPU worker
  int depth = 8;     ///< reads under way at once, by each of them: hides the latency of a network filesystem
  int prefetch = 4;  ///< batches finished ahead of next()
  Duration read_timeout = std::chrono::seconds(60);  ///< after which a read counts as lost
  /// Called with every batch before it is delivered, by threads of the loader, for several batches at once:
  /// decoding, augmenting and normalising belong here. An error takes the batch's place.
  std::function<Status(SampleBatch&)> finish;
};

/// Streams batches. Requests come from a source in order; the chunks that they need are read, checked and
/// decoded ahead as far as the budget goes, each once however many requests need it, and kept for later
/// epochs while there is room. Every rank with the same order sees the same samples at the same positions.
/// One thread calls next() and redirect().
class Loader {
 public:
  /// Gives the future, request by request, and nothing at its end. Called from a thread of the loader, one
  /// call at a time; must not block.
  using Source = std::function<std::optional<LoadRequest>()>;

  /// `dataset` is copied (it is a handle).
  Loader(const Dataset& dataset, LoaderOptions options, Source source);
  /// Does not wait for reads that hang.
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// The next batch; nothing once the source has ended. An error is given here, once, in its place in the
  /// order; the loader is dead from then on. corrupt: a chunk was wrong twice; it names shard, chunk, file
  /// offset and both checksums. timeout: a read did not return within options.read_timeout; it names the
  /// file.
  [[nodiscard]] Result<std::optional<SampleBatch>> next();

  /// The future has changed, as when a rank's share does: requests from number `from` on (the first that
  /// next() gives is 0) come from `source`. What was read ahead stays if the new requests need it. `from` is
  /// not one of those that next() has given.
  void redirect(std::int64_t from, Source source);

  struct Figures {
    Duration blocked{};            ///< time that next() has waited, in all
    std::int64_t chunks_read = 0;  ///< from the shards
    std::int64_t bytes_read = 0;
    std::int64_t most_bytes_held = 0;  ///< of chunks in memory at once
  };
  [[nodiscard]] Figures figures() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

/// What all loaders of this process have read through io_uring, which /proc/self/io does not count. Any
/// thread.
[[nodiscard]] std::int64_t bytes_read_by_io_uring() noexcept;

}  // namespace paceline

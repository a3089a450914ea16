#include <algorithm>
#include <atomic>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>

#include "paceline/data/consumed.hpp"

namespace paceline {
namespace {

/// One pass over a dataset, by several threads that take chunk after chunk.
class Pass {
 public:
  Pass(const Dataset& dataset, const SampleChecksumOptions& options)
      : dataset_(dataset), options_(options), first_(dataset.chunk_samples().size()) {
    const auto sizes = dataset.chunk_samples();
    std::exclusive_scan(sizes.begin(), sizes.end(), first_.begin(), std::int64_t{0});
    checksums_.resize(static_cast<std::size_t>(dataset.info().samples));
  }

  [[nodiscard]] Result<std::vector<std::uint64_t>> run() {
    {
      std::vector<std::jthread> others;
      for (int i = 1; i < options_.threads; ++i) others.emplace_back([this] { work(); });
      work();
    }
    if (error_.has_value()) return *std::move(error_);
    return std::move(checksums_);
  }

 private:
  void work() {
    while (!over_) {
      const std::size_t chunk = next_++;
      if (chunk >= first_.size()) return;
      const Status read = take(chunk);
      const std::lock_guard lock(mutex_);
      if (!read.ok()) {
        give_up(read.error());
      } else if (options_.progress && !over_ && !options_.progress(++done_)) {
        give_up({ErrorCode::aborted, "the pass over the dataset was given up"});
      }
    }
  }

  void give_up(const Error& error) {
    if (!error_.has_value()) error_ = error;
    over_ = true;
  }

  Status take(std::size_t number) {
    PACELINE_ASSIGN(const Chunk chunk, dataset_.read_chunk(static_cast<std::int64_t>(number)));
    for (std::int64_t i = 0; i < chunk.samples(); ++i)
      checksums_[static_cast<std::size_t>(first_[number] + i)] =
          sample_checksum(chunk.sample(i), chunk.label(i));
    return {};
  }

  const Dataset& dataset_;
  const SampleChecksumOptions& options_;
  std::vector<std::int64_t> first_;       // sample of each chunk
  std::vector<std::uint64_t> checksums_;  // each thread writes its own chunks' places
  std::atomic<std::size_t> next_{0};
  std::atomic<bool> over_{false};
  std::mutex mutex_;  // of what follows
  std::int64_t done_ = 0;
  std::optional<Error> error_;
};

}  // namespace

Result<std::vector<std::uint64_t>> all_sample_checksums(const Dataset& dataset,
                                                        const SampleChecksumOptions& options) {
  return Pass(dataset, options).run();
}

}  // namespace paceline

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "paceline/sched/rebalancer.hpp"
#include "rebalance/trace.hpp"

namespace paceline::bench {

/// Grains for each rank.
using TraceShares = std::vector<std::int64_t>;

/// What a law is told of an iteration that is over.
struct Replayed {
  std::int64_t iteration = 0;  ///< from 0
  std::int64_t remaining = 0;  ///< iterations after it
  const TraceShares& shares;
  const std::vector<double>& times;  ///< by rank, with these shares
  const TraceIteration& trace;       ///< its stages; a law must not look at more
};

/// Decides shares from what is past. Begins with equal ones.
class Law {
 public:
  Law() = default;
  Law(const Law&) = delete;
  Law& operator=(const Law&) = delete;
  virtual ~Law() = default;
  [[nodiscard]] virtual std::string name() const = 0;
  /// For the next iteration; as many grains in all.
  [[nodiscard]] virtual TraceShares next(const Replayed& past) = 0;
};

/// sched's Rebalancer. It moves at no cost, since the traces know of none.
class PacelineLaw : public Law {
 public:
  [[nodiscard]] std::string name() const override { return "paceline"; }
  [[nodiscard]] TraceShares next(const Replayed& past) override;
  /// How often each was decided.
  [[nodiscard]] const std::map<std::string, std::int64_t>& verdicts() const { return verdicts_; }
  /// The most frequent verdict's last reason.
  [[nodiscard]] const std::string& says() const;

 private:
  Rebalancer rebalancer_;
  std::map<std::string, std::int64_t> verdicts_;
  std::map<std::string, std::string> reasons_;
};

/// Those that ours is compared with: equal shares, shares in inverse proportion to the last step times, and
/// averages of the time per sample.
[[nodiscard]] std::vector<std::unique_ptr<Law>> other_laws();

}  // namespace paceline::bench

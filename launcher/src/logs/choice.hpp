#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "logs/line.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// Which rank each worker began as, from RUN/generations.
class RankHistory {
 public:
  explicit RankHistory(std::string run_dir) : run_dir_(std::move(run_dir)) {}

  /// The generations that are new.
  [[nodiscard]] Status read();
  /// Nothing: it was none yet.
  [[nodiscard]] std::optional<std::int64_t> first_rank(std::int64_t worker) const;
  /// The most that there were at a time; 0: none yet.
  [[nodiscard]] std::int64_t ranks() const noexcept { return ranks_; }

 private:
  std::string run_dir_;
  std::int64_t generation_ = 0;  // the last that was read
  std::int64_t ranks_ = 0;
  std::map<std::int64_t, std::int64_t> first_ranks_;
};

/// The lines that people want to see: of one rank or of all, the last so many of each. For the latter all
/// lines are counted first, so that none need be kept.
class LineChoice {
 public:
  /// `lines`: 0: all.
  LineChoice(std::optional<std::int64_t> rank, std::int64_t lines) : rank_(rank), lines_(lines) {}

  [[nodiscard]] bool must_count() const noexcept { return lines_ > 0; }
  void count(const LogAuthor& author);
  /// Asked once for each line, first of all for those that were counted, in the same order.
  [[nodiscard]] bool wants(const LogAuthor& author);

 private:
  /// Those who never had a rank are told apart by their numbers.
  using Group = std::pair<bool, std::int64_t>;
  [[nodiscard]] static Group group_of(const LogAuthor& author);
  [[nodiscard]] bool is_of_rank(const LogAuthor& author) const { return !rank_ || author.rank == rank_; }

  std::optional<std::int64_t> rank_;
  std::int64_t lines_;
  std::map<Group, std::int64_t> counted_;  // lines that are still to come
};

}  // namespace paceline

#include "paceline/sched/rebalancer_shares.hpp"

#include <functional>
#include <queue>
#include <utility>

#include "paceline/base/assert.hpp"

namespace paceline {

std::vector<std::int64_t> assign_grains(const std::vector<RankTime>& ranks, std::int64_t grains) {
  using Next = std::pair<double, std::size_t>;  // when a rank would finish one grain more, and the rank
  std::priority_queue<Next, std::vector<Next>, std::greater<>> next;
  std::vector<std::int64_t> shares;
  for (const RankTime& rank : ranks) {
    if (rank.least < rank.most) next.emplace(rank.finish_ms(rank.least + 1), shares.size());
    shares.push_back(rank.least);
    grains -= rank.least;
  }
  PACELINE_ASSERT(grains >= 0, "every rank gets its least share");
  for (; grains > 0; --grains) {
    PACELINE_ASSERT(!next.empty(), "the bounds leave room for all grains");
    const std::size_t rank = next.top().second;
    next.pop();
    if (++shares[rank] < ranks[rank].most) next.emplace(ranks[rank].finish_ms(shares[rank] + 1), rank);
  }
  return shares;
}

LastRank last_of(const std::vector<RankTime>& ranks, const std::vector<std::int64_t>& shares) {
  PACELINE_ASSERT(!ranks.empty() && ranks.size() == shares.size(), "a share for each rank");
  LastRank last;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const double finish_ms = ranks[rank].finish_ms(shares[rank]);
    if (finish_ms > last.finish_ms) last = {rank, finish_ms};
  }
  return last;
}

}  // namespace paceline

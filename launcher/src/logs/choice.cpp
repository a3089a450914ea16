#include "logs/choice.hpp"

#include <algorithm>

#include "generation_file.hpp"

namespace paceline {

Status RankHistory::read() {
  PACELINE_ASSIGN(const std::vector<Generation> generations, read_generations(run_dir_, generation_));
  for (const Generation& generation : generations) {
    generation_ = generation->generation;
    const auto ranks = static_cast<std::int64_t>(generation->members.size());
    ranks_ = std::max(ranks_, ranks);
    for (std::int64_t rank = 0; rank < ranks; ++rank)
      first_ranks_.emplace(generation->members[static_cast<std::size_t>(rank)].worker, rank);
  }
  return {};
}

std::optional<std::int64_t> RankHistory::first_rank(std::int64_t worker) const {
  const auto found = first_ranks_.find(worker);
  if (found == first_ranks_.end()) return std::nullopt;
  return found->second;
}

LineChoice::Group LineChoice::group_of(const LogAuthor& author) {
  return {author.rank.has_value(), author.rank.value_or(author.worker)};
}

void LineChoice::count(const LogAuthor& author) {
  if (is_of_rank(author)) ++counted_[group_of(author)];
}

bool LineChoice::wants(const LogAuthor& author) {
  if (!is_of_rank(author)) return false;
  const auto found = counted_.find(group_of(author));
  if (found == counted_.end() || found->second == 0) return true;
  return found->second-- <= lines_;
}

}  // namespace paceline

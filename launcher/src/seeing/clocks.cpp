#include "seeing/clocks.hpp"

#include <algorithm>
#include <iterator>

namespace paceline {
namespace {

// Of a piece: enough for a median that a few late wake-ups don't move.
constexpr std::size_t piece_commits = 64;
constexpr std::size_t most_pieces = 64;

struct Difference {
  double time_s = 0;  // of the node's clock
  double offset_s = 0;
};
using Differences = std::vector<Difference>;

double median(Differences::iterator begin, Differences::iterator end, double Difference::*member) {
  const auto middle = begin + (end - begin) / 2;
  std::nth_element(begin, middle, end,
                   [member](const Difference& a, const Difference& b) { return a.*member < b.*member; });
  return (*middle).*member;
}

Differences differences(const std::map<CommitKey, double>& times,
                        const std::map<CommitKey, double>& aligned) {
  Differences found;
  for (const auto& [key, time] : times) {
    const auto same = aligned.find(key);
    if (same != aligned.end()) found.push_back({time, time - same->second});
  }
  return found;
}

ClockOffset offset_of(Differences found) {
  std::ranges::sort(found, {}, &Difference::time_s);
  const std::size_t pieces = std::clamp<std::size_t>(found.size() / piece_commits, 1, most_pieces);
  std::vector<ClockOffset::Piece> result;
  for (std::size_t i = 0; i < pieces; ++i) {
    const auto begin = found.begin() + static_cast<std::ptrdiff_t>(found.size() * i / pieces);
    const auto end = found.begin() + static_cast<std::ptrdiff_t>(found.size() * (i + 1) / pieces);
    const double time_s = median(begin, end, &Difference::time_s);
    result.push_back({time_s, median(begin, end, &Difference::offset_s)});
  }
  return ClockOffset(std::move(result));
}

NodeClock clock_of(const Differences& found) {
  NodeClock clock;
  clock.common = std::ssize(found);
  if (found.empty()) return clock;
  clock.offset = offset_of(found);
  const auto [least, greatest] =
      std::ranges::minmax(clock.offset.pieces(), {}, &ClockOffset::Piece::offset_s);
  clock.least_s = least.offset_s;
  clock.greatest_s = greatest.offset_s;
  return clock;
}

}  // namespace

void CommitTimes::add(CommitKey key, double time_s) {
  if (key.second % stride_ != 0) return;
  times_.try_emplace(key, time_s);
  while (times_.size() > most) {
    stride_ *= 2;
    std::erase_if(times_, [this](const auto& entry) { return entry.first.second % stride_ != 0; });
  }
}

double ClockOffset::aligned(double time_s) const {
  if (pieces_.empty()) return time_s;
  const auto after = std::ranges::lower_bound(pieces_, time_s, {}, &Piece::time_s);
  if (after == pieces_.begin()) return time_s - pieces_.front().offset_s;
  if (after == pieces_.end()) return time_s - pieces_.back().offset_s;
  const Piece& before = *std::prev(after);
  const double span = after->time_s - before.time_s;
  const double part = span > 0 ? (time_s - before.time_s) / span : 0;
  return time_s - (before.offset_s + part * (after->offset_s - before.offset_s));
}

std::map<std::string, NodeClock> align_clocks(const std::map<std::string, CommitTimes>& nodes,
                                              const std::string& reference) {
  std::map<std::string, NodeClock> clocks;
  std::map<CommitKey, double> aligned;  // commits of all nodes that are
  const auto take = [&](const std::string& node, NodeClock clock) {
    const auto found = nodes.find(node);
    if (found != nodes.end())
      for (const auto& [key, time] : found->second.times())
        aligned.try_emplace(key, clock.offset.aligned(time));
    clocks.insert_or_assign(node, std::move(clock));
  };
  take(reference, {});
  // First those that have commits in common with the reference, then those with one of these, and so on.
  for (bool is_more = true; is_more;) {
    std::map<std::string, NodeClock> found;
    for (const auto& [node, commits] : nodes) {
      if (clocks.contains(node)) continue;
      NodeClock clock = clock_of(differences(commits.times(), aligned));
      if (clock.common > 0) found.emplace(node, std::move(clock));
    }
    is_more = !found.empty();
    for (auto& [node, clock] : found) take(node, std::move(clock));
  }
  for (const auto& [node, commits] : nodes) clocks.try_emplace(node);
  return clocks;
}

}  // namespace paceline

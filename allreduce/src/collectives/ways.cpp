#include "ways.hpp"

#include <algorithm>
#include <bit>

namespace paceline {
namespace {

// Each way is tried so often before one is preferred, and the other again every so many collectives.
constexpr std::uint32_t trials = 3;
constexpr std::uint32_t reconsider_every = 256;

}  // namespace

std::size_t WayChooser::class_of(std::size_t bytes) {
  return static_cast<std::size_t>(std::bit_width(bytes)) % 64;
}

Way WayChooser::choose(std::size_t bytes) const {
  if (forced_ != PlainMemory::automatic) return forced_ == PlainMemory::staged ? Way::staged : Way::pulled;
  const Class& seen = classes_[class_of(bytes)];
  if (seen.count < 2 * trials) return seen.count % 2 == 0 ? Way::staged : Way::pulled;
  const bool staged_is_faster = seen.best_staged <= seen.best_pulled;
  const bool other = seen.count % reconsider_every == 0;
  return staged_is_faster != other ? Way::staged : Way::pulled;
}

void WayChooser::learn(std::size_t bytes, Way way, Duration took) {
  Class& seen = classes_[class_of(bytes)];
  Duration& best = way == Way::staged ? seen.best_staged : seen.best_pulled;
  // Forgets slowly, so that a lucky one does not count for ever.
  best = best == Duration{} ? took : std::min(took, best + best / 16);
  ++seen.count;
}

}  // namespace paceline

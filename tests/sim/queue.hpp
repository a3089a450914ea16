#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "paceline/base/clock.hpp"
#include "paceline/base/hash.hpp"

namespace paceline::sim {

/// What is to happen, in the order of its time; at one time, in the order in which it was asked for.
class Queue {
 public:
  using Action = std::function<void()>;
  using Key = std::pair<Instant, std::uint64_t>;

  void at(Instant when, Action action) { actions_.emplace(Key{when, ++asked_}, std::move(action)); }
  void after(Duration delay, Action action) { at(now_ + delay, std::move(action)); }
  /// Does the next; false if there is none.
  bool step() {
    if (actions_.empty()) return false;
    auto first = actions_.extract(actions_.begin());
    now_ = first.key().first;
    current_ = first.key().second;
    first.mapped()();
    return true;
  }
  /// The action in hand later instead, before all that were asked for after it.
  void again_at(Instant when, Action action) { actions_.emplace(Key{when, current_}, std::move(action)); }
  [[nodiscard]] Instant now() const { return now_; }

 private:
  std::map<Key, Action> actions_;
  Instant now_{};
  std::uint64_t asked_ = 0, current_ = 0;
};

/// Numbers for a simulation: all of them from its seed.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : random_(seed) {}
  [[nodiscard]] std::int64_t between(std::int64_t least, std::int64_t most) {
    return least + static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(most - least + 1)));
  }
  [[nodiscard]] bool one_in(std::int64_t chances) { return between(1, chances) == 1; }
  [[nodiscard]] Duration between(Duration least, Duration most) {
    return Duration(between(least.count(), most.count()));
  }

 private:
  SplitMix64 random_;
};

}  // namespace paceline::sim

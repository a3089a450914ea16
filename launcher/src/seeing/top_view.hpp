#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "seeing/keys.hpp"
#include "seeing/run_events.hpp"
#include "seeing/screen.hpp"
#include "seeing/top_status.hpp"

namespace paceline {

/// What is known at one look.
struct TopLook {
  std::optional<TopStatus> status;  ///< nothing: nobody answers
  std::string problem;              ///< why
  double time_s = 0;                ///< of a clock that only grows
  std::vector<RunEvent> events;     ///< that are new
  std::optional<MetricsLine> metrics;
  std::optional<double> step_s;  ///< what a step took of late, all in all
  std::string ended;             ///< how the run ended; empty: it goes on
};

/// What `paceline top` shows. Pure: told what is known and which keys were pressed, it gives lines of a
/// screen.
class TopView {
 public:
  void take(const TopLook& look);
  void press(Key key);
  /// As many lines as `height`, each at most `width` columns wide. 0: as many as there are.
  [[nodiscard]] Screen screen(std::size_t width, std::size_t height);

 private:
  [[nodiscard]] Screen header() const;
  [[nodiscard]] Screen table(std::size_t width, std::size_t height);
  [[nodiscard]] Screen footer(bool for_terminal) const;
  void sort_rows();
  void note(const RunEvent& event);

  TopRates rates_;
  std::optional<TopStatus> status_;  // the last that was told
  std::string problem_;
  std::string ended_;
  std::optional<MetricsLine> metrics_;
  std::optional<double> step_s_;
  std::vector<TopRow> rows_;
  std::deque<RunEvent> events_;
  std::map<std::pair<std::int64_t, std::string>, RunEvent> stragglers_;  // by worker and part
  std::size_t sort_column_ = 0;
  bool descending_ = false;
  std::size_t first_row_ = 0;
  std::size_t page_ = 1;
};

}  // namespace paceline

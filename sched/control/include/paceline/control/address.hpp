#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "paceline/base/result.hpp"

namespace paceline::control {

/// Where the coordinator of a term is, or was.
struct CoordinatorAddress {
  std::int64_t term = 0;
  std::int64_t pid = 0;
  std::string node;
  std::string host;
  std::uint16_t port = 0;
  friend bool operator==(const CoordinatorAddress&, const CoordinatorAddress&) = default;
};

/// Takes a term: puts RUN/coordinators/<term>.json in place, for everybody to find. Whoever is first has it;
/// already_exists is the answer to all others.
[[nodiscard]] Status take_term(const std::string& run_dir, const CoordinatorAddress& address);

/// The content of such a file; `name` is for messages.
[[nodiscard]] Result<CoordinatorAddress> parse_coordinator(const std::string& text, const std::string& name);

/// The coordinator of the highest term; nothing where there was none yet.
[[nodiscard]] Result<std::optional<CoordinatorAddress>> newest_coordinator(const std::string& run_dir);

}  // namespace paceline::control

#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "allreduce/group.hpp"

namespace paceline::bench {

/// What came out for one size.
struct Row {
  std::uint64_t bytes = 0;
  std::uint64_t count = 0;
  std::map<std::string, double> us;             ///< by contender: median of its batches, per sum
  std::map<std::string, std::uint64_t> errors;  ///< by contender: elements of the verified run
  double limit_us = 0;                          ///< probe or wire; 0: there is none

  [[nodiscard]] double own_us() const { return us.at("paceline"); }
  [[nodiscard]] std::uint64_t own_errors() const { return errors.at("paceline"); }
};

/// Times all contenders in turn at one size, and has each add up known values once.
[[nodiscard]] Result<Row> measure(const std::vector<std::unique_ptr<Group>>& groups, std::uint64_t bytes,
                                  const AllreduceOptions& options, const Placement& placement);

}  // namespace paceline::bench

#pragma once

#include <functional>
#include <vector>

#include "paceline/base/result.hpp"
#include "paceline/data/dataset.hpp"
#include "paceline/data/order.hpp"
#include "paceline/job/journal.hpp"

namespace paceline {

/// The samples at positions [first, first + count) of one epoch.
using EpochAddresses = std::function<std::vector<SampleAddress>(std::int64_t first, std::int64_t count)>;

/// The order of `epoch` (from 1) in which a run with this journal trained on `dataset`: what the loader does,
/// from what run_record.cpp wrote down. Errors: an order of a kind that this version doesn't
/// know, or values that are missing or make no sense.
[[nodiscard]] Result<EpochAddresses> order_of(const JournalHeader& header, const Dataset& dataset,
                                              std::int64_t epoch);

// The named values of a header's order, or an error that says which one is missing.
[[nodiscard]] Result<std::int64_t> order_integer(const JournalHeader& header, const std::string& name,
                                                 std::int64_t least);
[[nodiscard]] Result<std::string> order_text(const JournalHeader& header, const std::string& name);

}  // namespace paceline

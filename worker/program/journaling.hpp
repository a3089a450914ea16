#pragma once

#include "paceline/data/dataset.hpp"
#include "paceline/data/loader.hpp"
#include "paceline/job/journal.hpp"
#include "paceline/job/protocol.hpp"

namespace paceline {

/// RUN/journal.jsonl, with everything in its header that the order of the loader's samples depends on, and a
/// new key. The audit reads the order back in launcher/src/audit_order.cpp.
struct OpenJournal {
  std::uint64_t key = 0;
  JournalWriter writer;
};
[[nodiscard]] Result<OpenJournal> open_journal(const StartMessage& start, const DatasetInfo& dataset,
                                               const OrderSpec& order, const Clock& clock);

}  // namespace paceline

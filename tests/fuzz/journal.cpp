// A journal from anywhere: an error value, or a journal whose lines the writer would write and the reader
// would read alike. The input's first byte says whether it begins with a header, of a first term or of a
// later one, without which nothing else is read.

#include <string_view>

#include "paceline/job/journal.hpp"

using namespace paceline;

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  JournalHeader given{.run = "r", .key = 1, .order = {}};
  if (data[0] % 3 == 2) {
    given.term = 3;
    given.follows = {2, 100, data[0]};
  }
  const std::string header = data[0] % 3 == 0 ? "" : journal_line(given);
  const Result<Journal> journal = parse_journal(header + std::string(bytes), "journal");
  if (!journal.ok()) return 0;
  std::string again = journal_line(journal->header);
  for (const std::int64_t epoch : journal->evaluated)
    again += journal_line(JournalEvaluation{epoch, 1, 0.5, {}});
  for (const JournalStep& step : journal->steps) again += journal_line(step);
  for (const JournalEpoch& epoch : journal->epochs) again += journal_line(epoch);
  if (journal->end) again += journal_line(*journal->end);
  const Result<Journal> reread = parse_journal(again, "journal");
  if (!reread.ok() || reread->fault_count != 0 || reread->torn_end) std::abort();
  if (reread->steps != journal->steps || reread->epochs != journal->epochs) std::abort();
  if (reread->evaluated != journal->evaluated || reread->bytes != std::ssize(again)) std::abort();
  if (reread->header.order != journal->header.order || reread->header.key != journal->header.key)
    std::abort();
  if (reread->header.term != journal->header.term || reread->header.follows != journal->header.follows)
    std::abort();
  return 0;
}

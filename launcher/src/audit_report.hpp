#pragma once

#include <string>

#include "audit.hpp"

namespace paceline {

/// What an audit came to, with what it says of the run besides.
struct AuditResult {
  std::string run;  ///< its folder
  AuditReport report;
  std::string end;                   ///< completed, stopped, failed; empty: the journal has none
  bool torn_end = false;             ///< its last line is cut off
  std::vector<JournalTerm> terms{};  ///< that it went through
};

/// The proof, and what was left out of it; where there are faults nothing is proved.
[[nodiscard]] std::string proof_text(const AuditResult& result);
/// How many faults, after they have been named.
[[nodiscard]] std::string fault_summary(const AuditResult& result);
[[nodiscard]] std::string audit_json(const AuditResult& result);

}  // namespace paceline

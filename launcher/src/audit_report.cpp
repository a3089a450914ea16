#include "audit_report.hpp"

#include <nlohmann/json.hpp>

#include "format.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

using Json = nlohmann::ordered_json;

std::string count(std::int64_t number, const char* what) {
  return concat(with_commas(static_cast<double>(number)), " ", what, number == 1 ? "" : "s");
}

Json fault_json(const AuditFault& fault) {
  Json json = {{"kind", std::string(to_string(fault.kind))}, {"message", fault.message}};
  if (fault.step > 0) json["step"] = fault.step;
  if (fault.epoch > 0) json["epoch"] = fault.epoch;
  if (fault.count > 0) {
    json["first"] = fault.first;
    json["count"] = fault.count;
  }
  return json;
}

/// "1 to step 40, 3 to step 120"
std::string terms_text(const std::vector<JournalTerm>& terms) {
  std::string text;
  for (const JournalTerm& term : terms)
    text += concat(text.empty() ? "" : ", ", term.term, " to step ", term.last_step);
  return text;
}

}  // namespace

std::string proof_text(const AuditResult& result) {
  const AuditReport& report = result.report;
  std::string text;
  if (report.epochs == 0)
    text = "no epoch has ended yet, and nothing is wrong with what there is";
  else
    text = concat("proved: ", count(report.epochs, "epoch"), ", ", count(report.steps, "step"), ", ",
                  count(report.samples, "sample"), "; each of the ",
                  with_commas(static_cast<double>(report.positions)),
                  " positions of every epoch was used exactly once, for the sample that belongs there");
  if (report.cut_short)
    text += concat("\nepoch ", report.cut_short->epoch, " ends with the job, after ",
                   with_commas(static_cast<double>(report.cut_short->positions)), " of them");
  if (report.unfinished)
    text += concat("\nepoch ", report.unfinished->epoch,
                   " has not ended: ", count(report.unfinished->steps, "step"), " used ",
                   count(report.unfinished->positions, "position"), ", each once");
  if (result.terms.size() > 1)
    text += concat("\nthe journals of ", result.terms.size(), " terms: ", terms_text(result.terms));
  if (result.torn_end) text += "\nthe journal's last line is cut off, and was left out";
  if (result.end.empty()) text += "\nthe journal has no end: the run was killed, or is still going on";
  return text;
}

std::string fault_summary(const AuditResult& result) {
  const AuditFaults& faults = result.report.faults;
  std::string text = concat(result.run, ": not proved, ", count(faults.count, "fault"));
  if (faults.count > static_cast<std::int64_t>(faults.list.size()))
    text += concat(", of which the first ", faults.list.size(), " are shown");
  return text;
}

std::string audit_json(const AuditResult& result) {
  const AuditReport& report = result.report;
  Json json = {{"run_dir", result.run}, {"status", report.faults.count == 0 ? "proved" : "not proved"}};
  json["epochs"] = report.epochs;
  json["steps"] = report.steps;
  json["samples"] = report.samples;
  json["positions_per_epoch"] = report.positions;
  json["unfinished"] = nullptr;
  if (report.unfinished)
    json["unfinished"] = {{"epoch", report.unfinished->epoch},
                          {"steps", report.unfinished->steps},
                          {"positions", report.unfinished->positions}};
  json["end"] = result.end.empty() ? Json(nullptr) : Json(result.end);
  json["torn_end"] = result.torn_end;
  json["terms"] = Json::array();
  for (const JournalTerm& term : result.terms)
    json["terms"].push_back({{"term", term.term}, {"last_step", term.last_step}});
  json["samples_compared"] = report.compared;
  json["faults"] = report.faults.count;
  json["first_faults"] = Json::array();
  for (const AuditFault& fault : report.faults.list) json["first_faults"].push_back(fault_json(fault));
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace paceline

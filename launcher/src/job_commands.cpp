// Commands that ask a running job's coordinator for something.
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "format.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "paceline/control/client.hpp"
#include "run_directory.hpp"

namespace paceline {
namespace {

using Json = nlohmann::json;

Status check_run_directory(const std::string& run_dir) {
  const Result<std::string> job = read_file(run_dir + "/job.json");
  if (job.ok()) return {};
  std::error_code ignored;  // "no": whatever keeps it from being looked at
  if (std::filesystem::exists(run_dir + "/job.json", ignored)) return job.error();
  return Error{ErrorCode::not_found, concat(shown(run_dir), " is no run directory: it has no job.json")};
}

/// How a run ended that nobody coordinates any more.
std::string how_it_ended(const std::string& run_dir) {
  const Result<std::string> text = read_file(run_dir + "/summary.json");
  if (!text.ok()) return "was not finished, and nobody runs it now";
  const Json json = Json::parse(*text, nullptr, false);
  return concat("has ended: ", json.is_object() ? json.value("status", "?") : "?");
}

Result<control::Answer> ask_coordinator(const std::string& given, const control::Request& request) {
  const std::string run_dir = absolute_path(given);
  PACELINE_TRY(check_run_directory(run_dir));
  PACELINE_ASSIGN(const auto coordinator, control::newest_coordinator(run_dir));
  if (!coordinator)
    return Error{ErrorCode::not_found, concat("the run ", run_dir, " ", how_it_ended(run_dir))};
  PACELINE_ASSIGN(const control::Credentials credentials, control::read_credentials(run_dir));
  Result<control::Answer> answer = control::ask(*coordinator, credentials, request);
  if (!answer.ok() && answer.error().code == ErrorCode::peer_lost)
    return Error{ErrorCode::not_found,
                 concat("the run ", run_dir, " ", how_it_ended(run_dir), " (", answer.error().message, ")")};
  if (!answer.ok()) return answer.error();
  if (!answer->error().empty())
    return Error{answer->usage() ? ErrorCode::invalid_argument : ErrorCode::io, answer->error()};
  return answer;
}

int tell(const std::string& run_dir, const control::Request& request) {
  const Result<control::Answer> answer = ask_coordinator(run_dir, request);
  if (!answer.ok()) return complain(answer.error());
  std::printf("%s\n", answer->text().c_str());
  return exit_done;
}

std::string cell(const Json& value) {
  if (value.is_null()) return "-";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

void print_status(const Json& status) {
  const Json& coordinator = status.at("coordinator");
  const auto counted = [&status](const char* key, const char* what) {
    return concat(cell(status.at(key)), " ", what, status.at(key) == 1 ? "" : "s");
  };
  std::printf("%s: step %s of %s, generation %s, %s, %s\n", cell(status.at("state")).c_str(),
              cell(status.at("step")).c_str(), cell(status.at("steps")).c_str(),
              cell(status.at("generation")).c_str(), counted("repairs", "repair").c_str(),
              counted("resizes", "resize").c_str());
  std::printf("coordinator of term %s: pid %s on %s, %s\n", cell(coordinator.at("term")).c_str(),
              cell(coordinator.at("pid")).c_str(), cell(coordinator.at("node")).c_str(),
              cell(coordinator.at("address")).c_str());
  static const std::vector<std::string> columns = {"rank",   "worker", "node", "pid",
                                                   "device", "share",  "state"};
  std::vector<std::vector<std::string>> rows = {columns};
  for (const Json& rank : status.at("ranks")) {
    std::vector<std::string>& row = rows.emplace_back();
    for (const std::string& column : columns) row.push_back(cell(rank.at(column)));
  }
  std::fputs(table_text(rows).c_str(), stdout);
}

}  // namespace

int status(const StatusOptions& options) {
  control::Request request;
  request.mutable_status();
  const Result<control::Answer> answer = ask_coordinator(options.run_dir, request);
  if (!answer.ok()) return complain(answer.error());
  const Json json = Json::parse(answer->text(), nullptr, false);
  if (options.json || !json.is_object())
    std::fputs(answer->text().c_str(), stdout);
  else
    print_status(json);
  return exit_done;
}

int resize(const ResizeOptions& options) {
  control::Request request;
  request.mutable_resize()->set_ranks(options.ranks);
  return tell(options.run_dir, request);
}

int drain(const DrainOptions& options) {
  control::Request request;
  request.mutable_drain()->set_node(options.node);
  return tell(options.run_dir, request);
}

int stop(const StopOptions& options) {
  control::Request request;
  request.mutable_stop();
  return tell(options.run_dir, request);
}

}  // namespace paceline

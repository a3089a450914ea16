#include "elastic/launch_facts.hpp"

#include <nlohmann/json.hpp>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

using Json = nlohmann::ordered_json;

std::string path_of(const std::string& run_dir) {
  return run_dir + "/launch.json";
}

}  // namespace

Status write_launch_facts(const std::string& run_dir, const LaunchFacts& facts) {
  const Json json = {{"agents", facts.agents},
                     {"ranks", facts.ranks},
                     {"min_ranks", facts.min_ranks},
                     {"max_ranks", facts.max_ranks},
                     {"host", facts.host},
                     {"ports", {facts.ports.first, facts.ports.last}},
                     {"closed", facts.closed},
                     {"attending", facts.attending},
                     {"first_term", facts.position.term},
                     {"base_step", facts.position.base_step},
                     {"checkpoint", facts.position.checkpoint},
                     {"last_generation", facts.position.last_generation},
                     {"last_worker", facts.position.last_worker}};
  return write_file_atomically(path_of(run_dir),
                               json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

Result<LaunchFacts> read_launch_facts(const std::string& run_dir) {
  PACELINE_ASSIGN(const std::string text, read_file(path_of(run_dir)));
  return parse_launch_facts(text, path_of(run_dir));
}

Result<LaunchFacts> parse_launch_facts(const std::string& text, const std::string& name) {
  const Json json = Json::parse(text, nullptr, false);
  LaunchFacts facts;
  try {
    facts.agents = json.at("agents").get<std::int64_t>();
    facts.ranks = json.at("ranks").get<std::int64_t>();
    facts.min_ranks = json.at("min_ranks").get<std::int64_t>();
    facts.max_ranks = json.at("max_ranks").get<std::int64_t>();
    facts.host = json.at("host").get<std::string>();
    facts.ports.first = json.at("ports").at(0).get<std::uint16_t>();
    facts.ports.last = json.at("ports").at(1).get<std::uint16_t>();
    facts.closed = json.at("closed").get<std::vector<std::string>>();
    facts.attending = json.at("attending").get<std::vector<std::string>>();
    facts.position.term = json.at("first_term").get<std::int64_t>();
    facts.position.base_step = json.at("base_step").get<std::int64_t>();
    facts.position.checkpoint = json.at("checkpoint").get<std::string>();
    facts.position.last_generation = json.at("last_generation").get<std::int64_t>();
    facts.position.last_worker = json.at("last_worker").get<std::int64_t>();
  } catch (const Json::exception& problem) {
    return Error{ErrorCode::corrupt,
                 concat(shown(name), " is not what a launch writes (", problem.what(), ")")};
  }
  if (facts.min_ranks < 1 || facts.min_ranks > facts.ranks || facts.ranks > facts.max_ranks)
    return Error{ErrorCode::corrupt, concat(shown(name), ": its ranks contradict each other")};
  return facts;
}

}  // namespace paceline

#include "generation_file.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline {

std::string generation_json(const GenerationRecord& record) {
  nlohmann::ordered_json members = nlohmann::ordered_json::array();
  for (const GenerationMember& member : record.members)
    members.push_back(
        {{"worker", member.worker}, {"node", member.node}, {"host", member.host}, {"port", member.port}});
  const nlohmann::ordered_json json = {
      {"generation", record.generation}, {"term", record.term}, {"base_step", record.base_step},
      {"planned", record.planned},       {"members", members},  {"donors", record.donors},
      {"reason", record.reason}};
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

RecordWritten write_generation(const std::string& run_dir, const GenerationRecord& record) {
  using Result = RecordWritten::Result;
  const std::string folder = run_dir + "/generations";
  if (::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST)
    return {record.generation, Result::failed, system_error(concat("cannot make ", folder)).message};
  const Status written =
      write_file_once(concat(folder, "/", record.generation, ".json"), generation_json(record));
  if (written.ok()) return {record.generation, Result::written, ""};
  const bool taken = written.error().code == ErrorCode::already_exists;
  return {record.generation, taken ? Result::exists : Result::failed, written.error().message};
}

Result<GenerationRecord> parse_generation(const std::string& text, const std::string& name) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  GenerationRecord record;
  try {
    record.generation = json.at("generation").get<std::int64_t>();
    record.term = json.at("term").get<std::int64_t>();
    record.base_step = json.at("base_step").get<std::int64_t>();
    record.planned = json.at("planned").get<bool>();
    record.donors = json.at("donors").get<std::vector<std::int64_t>>();
    record.reason = json.at("reason").get<std::string>();
    for (const nlohmann::json& member : json.at("members"))
      record.members.push_back({member.at("worker").get<std::int64_t>(), member.at("node").get<std::string>(),
                                member.at("host").get<std::string>(),
                                member.at("port").get<std::uint16_t>()});
  } catch (const nlohmann::json::exception& problem) {
    return Error{ErrorCode::corrupt,
                 concat(shown(name), " is no record of a generation (", problem.what(), ")")};
  }
  const auto ranks = static_cast<std::int64_t>(record.members.size());
  const bool is_sound = ranks > 0 && std::ranges::all_of(record.donors, [ranks](std::int64_t donor) {
                          return donor >= 0 && donor < ranks;
                        });
  if (!is_sound) return Error{ErrorCode::corrupt, concat(shown(name), " contradicts itself")};
  return record;
}

Result<std::vector<Generation>> read_generations(const std::string& run_dir, std::int64_t after) {
  const std::string folder = run_dir + "/generations";
  std::vector<std::int64_t> numbers;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.ends_with(".json")) continue;
    const auto number = parse_integer(name.substr(0, name.size() - 5), 1, std::int64_t{1} << 53);
    if (number && *number > after) numbers.push_back(*number);
  }
  if (error && error != std::errc::no_such_file_or_directory)
    return Error{ErrorCode::io, concat("cannot read ", shown(folder), ": ", error.message())};
  std::ranges::sort(numbers);
  std::vector<Generation> records;
  for (const std::int64_t number : numbers) {
    const std::string path = concat(folder, "/", number, ".json");
    PACELINE_ASSIGN(const std::string text, read_file(path));
    PACELINE_ASSIGN(GenerationRecord record, parse_generation(text, path));
    records.push_back(std::make_shared<const GenerationRecord>(std::move(record)));
  }
  return records;
}

}  // namespace paceline

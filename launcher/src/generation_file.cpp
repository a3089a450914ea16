#include "generation_file.hpp"

#include <sys/stat.h>

#include <cerrno>
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

}  // namespace paceline

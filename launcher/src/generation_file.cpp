#include "generation_file.hpp"

#include <sys/stat.h>
#include <unistd.h>

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
  const std::string path = concat(folder, "/", record.generation, ".json");
  const std::string beside = concat(folder, "/.", record.generation, ".term-", record.term);
  const std::string content = generation_json(record);
  const auto failed = [&](const std::string& why) {
    ::unlink(beside.c_str());
    return RecordWritten{record.generation, Result::failed, why};
  };
  if (::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST)
    return failed(system_error(concat("cannot make ", folder)).message);
  if (const Status written = write_file_atomically(beside, content); !written.ok())
    return failed(written.error().message);
  if (::link(beside.c_str(), path.c_str()) != 0) {
    const std::string why = system_error(concat("cannot link ", path)).message;
    // NFS may have done it and lost the answer: what is there decides.
    const paceline::Result<std::string> there = read_file(path);
    if (!there.ok()) return failed(why);
    if (*there != content) {
      ::unlink(beside.c_str());
      return {record.generation, Result::exists, why};
    }
  }
  ::unlink(beside.c_str());
  if (const Status synced = sync_folder(folder); !synced.ok()) return failed(synced.error().message);
  return {record.generation, Result::written, ""};
}

}  // namespace paceline

#include "allreduce/run.hpp"

#include <iostream>

#include "allreduce/measure.hpp"
#include "allreduce/report.hpp"
#include "allreduce/sizes.hpp"
#include "allreduce/table.hpp"
#include "command_line.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

constexpr Duration time_to_leave = std::chrono::seconds(10);

int complain(const Error& error) {
  std::cout.flush();
  std::cerr << "paceline: " << error.message << "\n";
  return error.code == ErrorCode::invalid_argument ? 2 : 1;
}

std::vector<std::string> contenders_of(const AllreduceOptions& options, const Placement& placement) {
  std::vector<std::string> contenders = {"paceline"};
  if (limit_name(options, placement) == "probe") contenders.push_back("probe");
  contenders.insert(contenders.end(), options.peers.begin(), options.peers.end());
  return contenders;
}

/// Says of contenders that added up wrongly which, and how often.
Status judge(const std::vector<Row>& rows) {
  for (const Row& row : rows)
    for (const auto& [contender, errors] : row.errors)
      if (errors > 0)
        return Error{ErrorCode::corrupt, concat(contender, " got ", errors, " elements wrong in the sum of ",
                                                row.bytes, " bytes")};
  return {};
}

Status measure_all(Driver& driver, const AllreduceOptions& options, const Placement& placement,
                   std::vector<Row>& rows) {
  std::vector<std::unique_ptr<Group>> groups;
  for (const std::string& contender : contenders_of(options, placement)) {
    PACELINE_ASSIGN(const Recipe recipe, recipe_for(contender, options, placement, driver.meeting()));
    PACELINE_ASSIGN(auto group, Group::start(driver, recipe, placement, options.timeout));
    groups.push_back(std::move(group));
  }
  std::cout << table_head(options, placement) << std::flush;
  for (const std::uint64_t bytes : sizes_of(options)) {
    PACELINE_ASSIGN(Row row, measure(groups, bytes, options, placement));
    std::cout << table_row(row, options) << std::flush;
    rows.push_back(std::move(row));
  }
  for (const std::unique_ptr<Group>& group : groups) PACELINE_TRY(group->quit(time_to_leave));
  return {};
}

}  // namespace

int run_allreduce(const AllreduceOptions& options) {
  if (const Status there = check_transport(options); !there.ok()) return complain(there.error());
  for (const std::string& peer : options.peers)
    if (const Status there = check_peer(peer, options); !there.ok()) return complain(there.error());
  if (const Status writable = check_json(options.json); !writable.ok()) return complain(writable.error());
  const Result<Placement> placement = place(options);
  if (!placement.ok()) return complain(placement.error());
  const Result<std::unique_ptr<Driver>> driver = Driver::make(*placement);
  if (!driver.ok()) return complain(driver.error());
  const Machine machine = this_machine();
  std::cout << describe(machine) << "\n"
            << describe(*placement) << ", " << options.memory << " memory, medians of " << options.rounds
            << (options.rounds == 1 ? " round" : " rounds") << " in turn\n\n";
  std::vector<Row> rows;
  const Status measured = measure_all(**driver, options, *placement, rows);
  if (!measured.ok()) {
    const int code = complain(measured.error());
    return (*driver)->take_signal() != 0 ? 128 + (*driver)->take_signal() : code;
  }
  if (!options.json.empty()) {
    const Status written =
        write_file_atomically(options.json, report_json(rows, options, *placement, machine));
    if (!written.ok()) return complain(written.error());
  }
  const Status right = judge(rows);
  return right.ok() ? 0 : complain(right.error());
}

}  // namespace paceline::bench

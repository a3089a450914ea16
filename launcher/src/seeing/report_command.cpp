#include <cstdio>

#include "commands.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "run_directory.hpp"
#include "seeing/report_data.hpp"
#include "seeing/report_page.hpp"

namespace paceline {
namespace {

Status write_report(const ReportOptions& options) {
  const std::string run_dir = absolute_path(options.run_dir);
  PACELINE_TRY(check_is_run(run_dir));
  PACELINE_ASSIGN(const ReportData data, gather_report(run_dir));
  PACELINE_TRY(write_file_atomically(options.html, report_page(data)));
  std::printf("wrote %s\n", shown(options.html).c_str());
  return {};
}

}  // namespace

int show_report(const ReportOptions& options) {
  const Status written = write_report(options);
  return written.ok() ? int{exit_done} : complain(written.error());
}

}  // namespace paceline

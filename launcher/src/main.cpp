#include <cstdio>

#include "commands.hpp"
#include "paceline/bench/bench.hpp"
#include "paceline/control/credentials.hpp"

namespace {

template <class... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};

}  // namespace

int main(int argc, char** argv) {
  using namespace paceline;
  control::keep_tls_until_exit();
  const Result<Command> command = parse_command_line(argc, argv);
  if (!command.ok()) return complain(command.error());
  return std::visit(Overloaded{[](const ShowText& show) {
                                 std::fputs(show.text.c_str(), stdout);
                                 return int{exit_done};
                               },
                               [](const TrainOptions& options) { return train(options); },
                               [](const EvalOptions& options) { return eval(options); },
                               [](const ExportOptions& options) { return export_run(options); },
                               [](const AuditOptions& options) { return audit_run(options); },
                               [](const StatusOptions& options) { return status(options); },
                               [](const ResizeOptions& options) { return resize(options); },
                               [](const DrainOptions& options) { return drain(options); },
                               [](const StopOptions& options) { return stop(options); },
                               [](const JoinOptions& options) { return join_job(options); },
                               [](const ExplainOptions& options) { return explain(options); },
                               [](const LogsOptions& options) { return show_logs(options); },
                               [](const TopOptions& options) { return show_top(options); },
                               [](const TimelineOptions& options) { return show_timeline(options); },
                               [](const ReportOptions& options) { return show_report(options); },
                               [](const PlanOptions& options) { return plan_ranks(options); },
                               [](const SubmitOptions& options) { return submit(options); },
                               [](const DoctorOptions& options) { return examine(options); },
                               [](const CoordinatorCommand& options) { return coordinate(options); },
                               [](const AgentCommand& options) { return serve_as_agent(options); },
                               [](const DataImportOptions& options) { return data_import(options); },
                               [](const DataInfoOptions& options) { return data_info(options); },
                               [](const DataVerifyOptions& options) { return data_verify(options); },
                               [](const DataPreviewOptions& options) { return data_preview(options); },
                               [](const BenchArguments& options) { return bench::run(options.arguments); }},
                    *command);
}

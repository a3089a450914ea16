#pragma once

#include "options.hpp"

namespace paceline {

/// What the program returns to its caller. After a signal it is 128 plus the signal's number.
enum ExitCode : int { exit_done = 0, exit_failed = 1, exit_usage = 2 };
/// Of a coordinator that was to succeed another, in a job that has ended.
inline constexpr int exit_job_has_ended = 3;

/// 2 for what the user asked wrongly, 1 for what went wrong.
[[nodiscard]] int exit_code_of(const Error& error);
/// One sentence on standard error; returns the exit code.
int complain(const Error& error);

// Each command does all of its work and its talking, and returns the exit code.
[[nodiscard]] int train(const TrainOptions& options);
[[nodiscard]] int eval(const EvalOptions& options);
[[nodiscard]] int export_run(const ExportOptions& options);
[[nodiscard]] int audit_run(const AuditOptions& options);
[[nodiscard]] int status(const StatusOptions& options);
[[nodiscard]] int resize(const ResizeOptions& options);
[[nodiscard]] int drain(const DrainOptions& options);
[[nodiscard]] int stop(const StopOptions& options);
[[nodiscard]] int join_job(const JoinOptions& options);
[[nodiscard]] int explain(const ExplainOptions& options);
[[nodiscard]] int show_logs(const LogsOptions& options);
[[nodiscard]] int show_top(const TopOptions& options);
[[nodiscard]] int show_timeline(const TimelineOptions& options);
[[nodiscard]] int show_report(const ReportOptions& options);
[[nodiscard]] int plan_ranks(const PlanOptions& options);
[[nodiscard]] int submit(const SubmitOptions& options);
[[nodiscard]] int examine(const DoctorOptions& options);
[[nodiscard]] int coordinate(const CoordinatorCommand& command);
[[nodiscard]] int serve_as_agent(const AgentCommand& command);
[[nodiscard]] int data_import(const DataImportOptions& options);
[[nodiscard]] int data_info(const DataInfoOptions& options);
[[nodiscard]] int data_verify(const DataVerifyOptions& options);
[[nodiscard]] int data_preview(const DataPreviewOptions& options);

}  // namespace paceline

#include "run.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>

#include "exporting.hpp"
#include "inputs.hpp"
#include "joining.hpp"
#include "paceline/base/text.hpp"
#include "setup.hpp"
#include "training.hpp"

namespace paceline {
namespace {

constexpr Duration start_timeout = std::chrono::seconds(60);

Result<FormMessage> receive_form(AgentLink& link) {
  PACELINE_ASSIGN(const std::optional<WorkerMessage> message, link.take(start_timeout));
  if (message.has_value() && std::holds_alternative<FormMessage>(*message))
    return std::get<FormMessage>(*message);
  return Error{ErrorCode::timeout, "the agent did not say who the other ranks are"};
}

Result<FinishedMessage> evaluate_run(const StartMessage& start, AgentLink& link) {
  PACELINE_ASSIGN(const FormMessage form, receive_form(link));
  PACELINE_ASSIGN(const Membership membership, join(start, form, link));
  Communicator& communicator = *membership.communicator;
  std::optional<Dataset> dataset;
  std::optional<TrainedModel> trained;
  ComputeDevice device;
  const auto open = [&]() -> Status {
    PACELINE_ASSIGN(device, compute_device(start.job));
    PACELINE_ASSIGN(trained, load_trained_model(start));
    trained->model->module().to(device.device);
    PACELINE_ASSIGN(dataset, Dataset::open(start.job.data.eval, dataset_options(start.job)));
    return {};
  };
  PACELINE_TRY(all_ready(communicator, open()));
  FinishedMessage finished;
  PACELINE_ASSIGN(finished.eval, evaluate_dataset(communicator, *trained->model, trained->input, *dataset,
                                                  start.job, device));
  finished.eval->epoch = start.job.epochs;
  finished.samples = finished.eval->samples;
  finished.weights_sha256 = weights_sha256(weights_of(trained->model->module()));
  finished.peak_memory_bytes = peak_memory_bytes();
  if (form.rank == 0) PACELINE_TRY(link.send(*finished.eval));
  return finished;
}

Result<std::optional<FinishedMessage>> carry_out(const StartMessage& start, AgentLink& link) {
  try {
    configure_process(start.threads);
    if (start.action == "train") {
      PACELINE_ASSIGN(Faults faults, Faults::from_environment(start.worker));
      link.activity().expect(std::move(faults));
      link.send_heartbeats();
      return train(start, link);
    }
    if (start.action == "eval") {
      PACELINE_ASSIGN(FinishedMessage finished, evaluate_run(start, link));
      return std::optional(std::move(finished));
    }
    if (start.action == "export") {
      PACELINE_TRY(export_model(start));
      return std::optional<FinishedMessage>(std::in_place);
    }
    return Error{ErrorCode::unsupported, concat("this worker can't \"", start.action, "\"")};
  } catch (const std::exception& exception) {  // LibTorch's, or no memory
    return Error{ErrorCode::internal, exception.what()};
  }
}

Result<StartMessage> receive_start(AgentLink& link) {
  PACELINE_TRY(link.send(HelloMessage{PACELINE_VERSION}));
  PACELINE_ASSIGN(std::optional<WorkerMessage> message, link.take(start_timeout));
  if (message.has_value() && std::holds_alternative<StartMessage>(*message))
    return std::get<StartMessage>(std::move(*message));
  return Error{ErrorCode::timeout, "the agent did not say what to do"};
}

}  // namespace

int run_worker() {
  // Ctrl-C in a terminal and Slurm's signals reach the agent, which decides.
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) std::signal(number, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  if (::fcntl(worker_channel_fd, F_GETFD) < 0) {
    std::fputs("paceline-worker is started by paceline: use `paceline train JOB.yaml`\n", stderr);
    return 2;
  }
  AgentLink link{WorkerChannel(UniqueFd(worker_channel_fd))};
  link.start();
  const auto start = receive_start(link);
  if (!start.ok()) {
    std::fprintf(stderr, "paceline-worker: %s\n", start.error().message.c_str());
    return 1;
  }
  const auto finished = carry_out(*start, link);
  if (finished.ok()) return !finished->has_value() || link.send(**finished).ok() ? 0 : 1;
  const Error& error = finished.error();
  const FailedMessage failed{std::string(to_string(error.code)), error.message, error.rank};
  if (!link.send(failed).ok()) std::fprintf(stderr, "paceline-worker: %s\n", error.message.c_str());
  return 1;
}

}  // namespace paceline

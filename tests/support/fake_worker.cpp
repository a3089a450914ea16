// A worker without LibTorch, for tests of the launcher: it speaks the worker's protocol and does what
// FAKE_WORKER says, for all ranks or for one:
//
//   FAKE_WORKER="BEHAVIOUR" or "RANK:BEHAVIOUR,RANK:BEHAVIOUR..."; a rank that is not named trains.
//
// Behaviours: train, exit, fail, lost RANK, segfault, hang, deaf, mute, garbage, version, linger, talk,
// child. FAKE_WORKER_STEPS: how many steps of 10 ms there are in each of the job's epochs (default 3).
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <thread>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "paceline/job/protocol.hpp"

namespace paceline {
namespace {

constexpr Duration step_time = std::chrono::milliseconds(10);
constexpr std::int64_t samples_per_step = 256;
// If a test loses its agent in a way that it did not mean, nothing stays behind for long.
constexpr unsigned longest_life_s = 60;

std::string behaviour_of(std::int64_t rank) {
  const std::string all = environment("FAKE_WORKER").value_or("train");
  for (const std::string& part : split(all, ',')) {
    const std::size_t colon = part.find(':');
    if (colon == std::string::npos) return part;
    if (part.substr(0, colon) == concat(rank)) return part.substr(colon + 1);
  }
  return "train";
}

[[noreturn]] void sleep_until_killed() {
  while (true) ::pause();
}

void ignore_signals() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::signal(signal, SIG_IGN);
}

/// What a test wants to know about how it was started, one "key value" in a line.
void describe_start(const StartMessage& start, const FormMessage& form) {
  std::ofstream out(concat(start.run_dir, "/fake-", start.action, "-", start.worker));
  out << "pid " << ::getpid() << "\ngroup " << ::getpgrp() << "\nparent " << ::getppid() << "\n";
  for (const char* name :
       {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PACELINE_RANK", "GLIBC_TUNABLES"})
    out << name << " " << environment(name).value_or("") << "\n";
  out << "threads " << start.threads << "\nranks " << form.members.size() << "\nsecret " << start.secret
      << "\n";
  out << "host " << form.members[0].host << "\nport " << form.members[0].port << "\n";
  out << "node " << form.members[static_cast<std::size_t>(form.rank)].node << "\n";
  struct stat found {};
  out << "listener "
      << (start.has_listener && ::fstat(worker_listener_fd, &found) == 0 && S_ISSOCK(found.st_mode)) << "\n";
  int open = 0;
  for (int fd = 0; fd < 256; ++fd) open += ::fstat(fd, &found) == 0;
  out << "descriptors " << open - 1 << "\n";  // less the one of this file
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("Cpus_allowed_list:")) out << "cpus " << line.substr(line.find('\t') + 1) << "\n";
}

FinishedMessage finished(std::int64_t steps, std::int64_t epochs, const std::string& status) {
  FinishedMessage message;
  message.status = status;
  message.steps = steps;
  message.epochs = epochs;
  message.samples = steps * samples_per_step;
  message.seconds = static_cast<double>(steps) * to_seconds(step_time);
  message.step_ms = {10, 11, 12};
  message.exposed_allreduce_ms.p50 = 0.25;
  message.train_loss = 0.5;
  message.weights_sha256 = std::string(64, 'a');
  message.peak_memory_bytes = 1 << 20;
  return message;
}

class FakeWorker {
 public:
  FakeWorker() : channel_(UniqueFd(worker_channel_fd)) {}

  int run() {
    const std::int64_t rank = parse_integer(environment("PACELINE_RANK").value_or(""), 0, 4096).value_or(-1);
    behaviour_ = behaviour_of(rank);
    if (behaviour_ == "mute") sleep_until_killed();
    if (behaviour_ == "version") return send_raw(R"({"type":"hello","protocol":999,"version":"x"})");
    if (!channel_.send(HelloMessage{"fake"}).ok()) return 9;
    Result<std::optional<WorkerMessage>> first = channel_.receive(std::chrono::seconds(10));
    if (!first.ok() || !*first || !std::holds_alternative<StartMessage>(**first)) return 8;
    start_ = std::get<StartMessage>(**first);
    if (start_.action == "train" && !channel_.send(ReadyMessage{}).ok()) return 9;
    if (!await_form()) return dismissed_ ? 0 : 8;
    describe_start(start_, form_);
    return start_.action == "train" ? train() : other_action();
  }

 private:
  int send_raw(std::string_view bytes) {
    if (::send(worker_channel_fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) return 9;
    sleep_until_killed();
  }

  int fail(const std::string& code, const std::string& message, std::int64_t lost_rank) {
    if (!channel_.send(FailedMessage{code, message, lost_rank}).ok()) return 9;
    return 1;
  }

  int other_action() {
    if (start_.action == "export") {
      if (!write_file_atomically(start_.export_path, start_.export_format + "\n").ok()) return 7;
    } else if (form_.rank == 0 && !channel_.send(EvalMessage{2, 10000, 0.25, 0.9, {}}).ok()) {
      return 9;
    }
    return channel_.send(finished(0, 0, "completed")).ok() ? 0 : 9;
  }

  /// Misbehaves, if it is to; nothing where it trains on.
  std::optional<int> misbehave() {
    if (behaviour_ == "exit") {
      std::cout << "reading the data" << std::endl;
      std::cerr << "something terrible happened" << std::endl;
      return 3;
    }
    if (behaviour_ == "fail") return fail("corrupt", "chunk 7 of shard-00000.h5 is damaged", -1);
    if (behaviour_.starts_with("lost ")) {
      const std::int64_t rank = parse_integer(behaviour_.substr(5), 0, 4096).value_or(0);
      return fail("peer lost", concat("rank ", rank, " closed its connection"), rank);
    }
    if (behaviour_ == "segfault") ::raise(SIGSEGV);
    if (behaviour_ == "garbage") return send_raw("this is not a message");
    if (behaviour_ == "hang") {
      ignore_signals();
      sleep_until_killed();
    }
    if (behaviour_ == "child" && ::fork() == 0) {
      ::prctl(PR_SET_PDEATHSIG, 0);
      ::alarm(longest_life_s);
      write_pid("grandchild");
      sleep_until_killed();
    }
    if (behaviour_ == "talk")
      for (int line = 0; line < 100000; ++line) std::cout << "line " << line << "\n";
    return std::nullopt;
  }

  void write_pid(const char* name) { std::ofstream(concat(start_.run_dir, "/", name)) << ::getpid() << "\n"; }

  int train() {
    const std::int64_t per_epoch =
        parse_integer(environment("FAKE_WORKER_STEPS").value_or("3"), 1, 100000).value_or(3);
    const std::int64_t epochs = start_.job.epochs;
    if (form_.rank == 0) await_others();
    if (!channel_.send(EnteredMessage{form_.generation}).ok()) return 9;
    std::int64_t generation = form_.generation;
    for (std::int64_t step = form_.base_step + 1; step <= per_epoch * epochs; ++step) {
      if (step >= 2 && !misbehaved_) {
        misbehaved_ = true;
        if (const std::optional<int> code = misbehave()) return *code;
      }
      std::this_thread::sleep_for(step_time);
      listen();
      if (leave_) {
        leave_ = false;
        if (!channel_.send(LeftMessage{generation, step - 1, false, true, "aborted", "told to", -1}).ok())
          return 9;
        if (!await_form()) return 0;
        step = form_.base_step + 1;
      }
      if (dismissed_ || form_.rank < 0) return 0;
      if (form_.generation != generation && !channel_.send(EnteredMessage{form_.generation}).ok()) return 9;
      generation = form_.generation;
      if (stop_) return finish(step, (step - 1) / per_epoch, "stopped");
      const std::int64_t epoch = (step - 1) / per_epoch + 1;
      if (form_.rank != 0) continue;
      const double left = static_cast<double>(per_epoch * epochs - step) * to_seconds(step_time);
      const double loss = 1.0 / static_cast<double>(step);
      const ProgressMessage progress{.step = step,
                                     .steps = per_epoch * epochs,
                                     .epoch = epoch,
                                     .epochs = epochs,
                                     .epoch_step = step - (epoch - 1) * per_epoch,
                                     .epoch_steps = per_epoch,
                                     .loss = loss,
                                     .epoch_loss = loss,
                                     .samples_per_second = 8214.4,
                                     .seconds_left = left};
      if (!channel_.send(progress).ok()) return 9;
      if (step % per_epoch == 0 && !channel_.send(EvalMessage{epoch, 10000, 0.44, 0.842, {}}).ok()) return 9;
    }
    return finish(per_epoch * epochs, epochs, "completed");
  }

  /// A step takes all ranks, so rank 0 makes none before the others are there.
  void await_others() {
    const SteadyClock clock;
    const Deadline deadline(clock, std::chrono::seconds(15));
    for (std::size_t rank = 1; rank < form_.members.size(); ++rank) {
      const std::string there = concat(start_.run_dir, "/fake-train-", rank);
      while (::access(there.c_str(), F_OK) != 0 && !deadline.passed()) std::this_thread::sleep_for(step_time);
    }
  }

  void obey(const WorkerMessage& message) {
    if (std::holds_alternative<StopMessage>(message)) stop_ = true;
    if (std::holds_alternative<LeaveMessage>(message)) leave_ = true;
    if (std::holds_alternative<DismissMessage>(message)) dismissed_ = true;
    // It needs no connections, so that it is ready for a change at once.
    if (const auto* form = std::get_if<FormMessage>(&message)) form_ = *form;
  }

  /// Until it is told of a generation; false where it is sent away.
  bool await_form() {
    const SteadyClock clock;
    const Deadline deadline(clock, std::chrono::seconds(15));
    form_.members.clear();
    while (form_.members.empty() && !dismissed_ && !deadline.passed()) {
      const Result<std::optional<WorkerMessage>> message = channel_.receive(std::chrono::seconds(1));
      if (!message.ok()) return false;
      if (*message) obey(**message);
    }
    return !form_.members.empty();
  }

  void listen() {
    if (behaviour_ == "deaf") return;
    while (true) {
      const Result<std::optional<WorkerMessage>> message = channel_.receive(Duration::zero());
      if (!message.ok() || !message.value()) return;
      obey(**message);
    }
  }

  int finish(std::int64_t steps, std::int64_t epochs, const std::string& status) {
    FinishedMessage message = finished(steps, epochs, status);
    if (epochs > 0) message.eval = EvalMessage{epochs, 10000, 0.44, 0.842, {}};
    if (form_.rank == 0) std::ofstream(start_.run_dir + "/model.safetensors") << "weights\n";
    if (!channel_.send(message).ok()) return 9;
    if (behaviour_ == "linger") sleep_until_killed();
    return 0;
  }

  WorkerChannel channel_;
  StartMessage start_;
  FormMessage form_;
  bool stop_ = false, leave_ = false, dismissed_ = false, misbehaved_ = false;
  std::string behaviour_;
};

}  // namespace
}  // namespace paceline

int main() {
  ::alarm(paceline::longest_life_s);
  return paceline::FakeWorker().run();
}

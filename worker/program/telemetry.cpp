#include "telemetry.hpp"

#include <pthread.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <utility>
#include <vector>

#include "gpu_sensor.hpp"
#include "paceline/base/log.hpp"
#include "telemetry_file.hpp"
#include "wire_meter.hpp"

namespace paceline {
namespace {

const SteadyClock steady_clock;
constexpr Duration least_phase = std::chrono::milliseconds(1);
constexpr std::size_t most_ranks = 64;  // records for which there is room where there is none for others

Duration epoch() {
  return std::chrono::system_clock::now().time_since_epoch() - steady_clock.now().time_since_epoch();
}

}  // namespace

/// What the three threads have in common.
struct TelemetryRecorder::Shared {
  Shared(TelemetryOptions given, Activity& its) : options(std::move(given)), activity(&its) {
    records.reserve(options.most_records + most_ranks);
  }

  void add(const TelemetryRecord& record) {
    const std::lock_guard lock(mutex);
    // Without its rank what follows would be another's.
    const bool precious = std::holds_alternative<RankRecord>(record);
    if (records.size() < options.most_records + (precious ? most_ranks : 0))
      records.push_back(record);
    else
      ++lost;
  }

  const TelemetryOptions options;
  std::mutex mutex;  // guards what follows, and is held while records are handed over
  std::condition_variable changed;
  Activity* activity;  // null once it ends
  std::vector<TelemetryRecord> records;
  std::int64_t lost = 0;  // records for which there was no room
  std::string node;
  bool ending = false;
  int running = 2;  // threads

  std::mutex wires_mutex;  // guards what follows, and is held while sockets are looked at
  const Communicator* communicator = nullptr;
  WireMeter wires;

  void look_at_wires() {
    if (communicator != nullptr) wires.observe(steady_clock.now(), communicator->wire_statistics());
  }
};

// ---- sampling ---------------------------------------------------------------------------------------

class TelemetryRecorder::Sampler {
 public:
  explicit Sampler(std::shared_ptr<Shared> shared)
      : shared_(std::move(shared)), sensors_(shared_->options.roots) {}

  void run() {
    open_gpu();
    for (Instant next = steady_clock.now(); !ending(next);) {
      sample();
      // Those that were missed are not made up for.
      next = std::max(next, steady_clock.now() - shared_->options.sample_interval) +
             shared_->options.sample_interval;
    }
  }

 private:
  void open_gpu() {
    Result<GpuSensor> gpu = GpuSensor::open(shared_->options.nvml);
    if (gpu.ok())
      gpu_ = std::move(*gpu);
    else
      log(LogLevel::warning, "telemetry has nothing of the GPU: ", gpu.error().message);
  }

  [[nodiscard]] bool ending(Instant until) {
    std::unique_lock lock(shared_->mutex);
    return shared_->changed.wait_until(lock, until, [this] { return shared_->ending; });
  }

  void sample() {
    sensors_.read(sample_);
    gpu_.read(sample_);
    read_wires();
    const SampleRecord record{steady_clock.now(), sample_};
    bool many = false;
    {
      const std::lock_guard lock(shared_->mutex);
      if (shared_->activity == nullptr) return;
      shared_->activity->board().set_sample(sample_);
      many = shared_->records.size() > shared_->options.most_records / 2;
    }
    shared_->add(record);
    if (many) shared_->changed.notify_all();
  }

  void read_wires() {
    const std::lock_guard lock(shared_->wires_mutex);
    shared_->look_at_wires();
    sample_.wire_bytes = shared_->wires.bytes();
    sample_.wire_busy_s = to_seconds(shared_->wires.busy());
    const std::optional<WireMeter::Speed> slowest = shared_->wires.slowest();
    sample_.slowest_wire_rank = slowest ? slowest->rank : -1;
    sample_.slowest_wire_bytes_per_s = slowest ? slowest->bytes_per_s : 0;
  }

  const std::shared_ptr<Shared> shared_;
  Sensors sensors_;
  GpuSensor gpu_;
  Telemetry sample_;
};

// ---- writing ----------------------------------------------------------------------------------------

class TelemetryRecorder::Writer {
 public:
  explicit Writer(std::shared_ptr<Shared> shared)
      : shared_(std::move(shared)),
        lines_(shared_->options.worker, ::getpid(), epoch()),
        file_(shared_->options.folder, shared_->options.worker, shared_->options.most_file_bytes) {
    records_.reserve(shared_->options.most_records + most_ranks);
  }

  void run() {
    for (bool last = false; !last;) {
      last = take();
      if (!node_.empty()) write();
    }
  }

 private:
  /// What is in hand by now; true where nothing more will be.
  [[nodiscard]] bool take() {
    records_.clear();
    std::unique_lock lock(shared_->mutex);
    shared_->changed.wait_for(lock, shared_->options.write_interval, [this] {
      return shared_->ending || shared_->records.size() > shared_->options.most_records / 2;
    });
    if (node_ != shared_->node) node_ = shared_->node;
    if (!node_.empty()) {
      records_.swap(shared_->records);
      lost_ += std::exchange(shared_->lost, 0);
    }
    return shared_->ending;
  }

  void write() {
    const Status written = try_to_write();
    if (written.ok()) {
      lost_ = 0;
      return;
    }
    lost_ += std::ssize(records_);
    for (const TelemetryRecord& record : records_) lines_.pass(record);
    if (!std::exchange(told_, true))
      log(LogLevel::warning, "telemetry is not written, and training goes on: ", written.error().message,
          "; not said again");
  }

  [[nodiscard]] Status try_to_write() {
    PACELINE_ASSIGN(const bool begins, file_.prepare());
    text_.clear();
    if (begins) lines_.begin(text_, steady_clock.now(), node_);
    if (lost_ > 0) lines_.add_lost(text_, steady_clock.now(), lost_);
    for (const TelemetryRecord& record : records_) lines_.add(text_, record);
    return file_.write(text_);
  }

  const std::shared_ptr<Shared> shared_;
  TelemetryLines lines_;
  TelemetryFile file_;
  std::string node_;
  std::vector<TelemetryRecord> records_;
  std::int64_t lost_ = 0;
  bool told_ = false;
  std::string text_;
};

// ---- the training thread's --------------------------------------------------------------------------

namespace {

/// `run` in a thread of that name; `end` when it is over.
template <class Run, class End>
std::thread begin_thread(const char* name, Run run, End end) {
  return std::thread([name, run = std::move(run), end = std::move(end)]() mutable {
    ::pthread_setname_np(::pthread_self(), name);
    run();
    end();
  });
}

}  // namespace

TelemetryRecorder::TelemetryRecorder(TelemetryOptions options, Activity& activity)
    : shared_(std::make_shared<Shared>(std::move(options), activity)) {
  const auto end = [shared = shared_] {
    const std::lock_guard lock(shared->mutex);
    --shared->running;
    shared->changed.notify_all();
  };
  sampler_ = begin_thread(
      "telemetry", [shared = shared_] { Sampler(shared).run(); }, end);
  writer_ = begin_thread(
      "telemetry-file", [shared = shared_] { Writer(shared).run(); }, end);
}

TelemetryRecorder::~TelemetryRecorder() {
  watch(nullptr);
  std::unique_lock lock(shared_->mutex);
  shared_->activity = nullptr;
  shared_->ending = true;
  shared_->changed.notify_all();
  const bool ended =
      shared_->changed.wait_for(lock, shared_->options.farewell, [this] { return shared_->running == 0; });
  lock.unlock();
  for (std::thread* thread : {&sampler_, &writer_}) ended ? thread->join() : thread->detach();
}

void TelemetryRecorder::watch(const Communicator* communicator) {
  const std::lock_guard lock(shared_->wires_mutex);
  shared_->look_at_wires();  // for the last time at the one before
  shared_->communicator = communicator;
  shared_->wires.begin_generation();
}

void TelemetryRecorder::enter(const RankRecord& rank, const std::string& node) {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->node = node;
  }
  shared_->add(rank);
}

void TelemetryRecorder::committed(const StepRecord& step) {
  shared_->activity->board().add(step);
  shared_->add(step);
}

void TelemetryRecorder::spent(Phase phase, Instant since) {
  const Duration took = steady_clock.now() - since;
  if (took >= least_phase) shared_->add(PhaseRecord{since, phase, took});
}

TelemetryRecorder::PhaseSpan::PhaseSpan(TelemetryRecorder& recorder, Phase phase)
    : recorder_(recorder), phase_(phase), began_(steady_clock.now()) {
  recorder_.shared_->activity->begin(phase);
}

TelemetryRecorder::PhaseSpan::~PhaseSpan() {
  recorder_.spent(phase_, began_);
}

}  // namespace paceline

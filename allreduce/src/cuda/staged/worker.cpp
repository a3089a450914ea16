#include "worker.hpp"

#include "../ipc/kernels.hpp"

namespace paceline::cuda {

Result<std::unique_ptr<StagedWorker>> StagedWorker::make(int device, StagedLane all,
                                                         std::vector<StagedLane> between,
                                                         const StagedTuning& tuning,
                                                         std::function<void(const Error&)> fail) {
  std::unique_ptr<StagedWorker> worker(new StagedWorker);
  worker->device_ = device;
  worker->all_.push_back(std::move(all));
  worker->between_ = std::move(between);
  worker->tuning_ = tuning;
  worker->fail_ = std::move(fail);
  for (const std::vector<StagedLane>* lanes : {&worker->all_, &worker->between_}) {
    for (const StagedLane& lane : *lanes) {
      if (lane.communicator == nullptr) continue;
      PACELINE_ASSIGN(Registration pinned, pin(lane.memory.data(), lane.memory.bytes()));
      worker->pinned_.push_back(std::move(pinned));
    }
  }
  PACELINE_ASSIGN(worker->copies_, DeviceCopies::make(tuning.slots));
  worker->operations_ = worker->copies_->operations();
  PACELINE_ASSIGN(worker->released_, allocate_pinned(sizeof(std::uint32_t)));
  worker->thread_ = std::thread([self = worker.get()] { self->run(); });
  return worker;
}

StagedWorker::~StagedWorker() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Status StagedWorker::submit(const Request& request, bool between_nodes, cudaStream_t stream) {
  Job job;
  job.request = request;
  job.between_nodes = between_nodes;
  job.number = ++submitted_;
  PACELINE_ASSIGN(job.ready, make_event());
  PACELINE_TRY(check(cudaEventRecord(job.ready.get(), stream), "an event cannot be recorded"));
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  changed_.notify_all();
  return ipc::launch_wait(reinterpret_cast<const std::uint32_t*>(released_.get()), submitted_, stream);
}

void StagedWorker::abort(const std::string& reason) {
  {
    const std::lock_guard lock(mutex_);
    failed_ = true;
  }
  for (const std::vector<StagedLane>* lanes : {&all_, &between_})
    for (const StagedLane& lane : *lanes)
      if (lane.communicator != nullptr) lane.communicator->abort(reason);
}

std::optional<StagedWorker::Job> StagedWorker::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return closed_ || !jobs_.empty(); });
  if (jobs_.empty()) return std::nullopt;
  Job job = std::move(jobs_.front());
  jobs_.pop_front();
  return job;
}

void StagedWorker::run() {
  const DeviceScope scope(device_);
  while (std::optional<Job> job = next()) {
    bool skip = false;
    {
      const std::lock_guard lock(mutex_);
      skip = failed_;
    }
    const Status status = skip ? Status() : scope.status().ok() ? carry_out(*job) : scope.status();
    if (!status.ok()) {
      {
        const std::lock_guard lock(mutex_);
        failed_ = true;
      }
      fail_(status.error());
    }
    release(job->number);
  }
}

Status StagedWorker::carry_out(const Job& job) {
  const std::size_t count = job.request.descriptor.count;
  PACELINE_TRY(copies_->after(job.ready.get()));
  if (!job.between_nodes) return run_staged(job.request, {{0, {0, count}}}, all_, operations_, tuning_);
  return run_staged(job.request, pieces_of(count, static_cast<int>(between_.size())), between_, operations_,
                    tuning_);
}

void StagedWorker::release(std::uint32_t number) {
  ipc::store_release(reinterpret_cast<std::uint32_t*>(released_.get()), number);
}

}  // namespace paceline::cuda

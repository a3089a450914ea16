#include "checkpointing.hpp"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <utility>

#include "joining.hpp"
#include "paceline/base/text.hpp"
#include "paceline/job/journal.hpp"

namespace paceline {
namespace {

const SteadyClock steady_clock;

// Of the time of one core, while training goes on. A step is as slow as its slowest core, so that is also
// what is added to a step.
constexpr double share_of_a_core = 0.01;

/// What this thread has computed, waiting left out.
Duration worked_so_far() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

/// Computes and reads and writes when nobody else wants to. Hints: where they are refused, pacing is enough.
void step_back() {
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), 19);
  constexpr int whoever_calls = 1, best_effort_lowest = (2 << 13) | 7;
  ::syscall(SYS_ioprio_set, whoever_calls, 0, best_effort_lowest);
}

std::string digits_of(const std::vector<std::uint64_t>& checksums) {
  std::string digits;
  for (const std::uint64_t checksum : checksums) digits += hex_word(checksum).substr(2);
  return digits;
}

}  // namespace

Checkpointing::Checkpointing(std::string run_dir, AgentLink& link)
    : run_dir_(std::move(run_dir)), link_(link) {
}

Checkpointing::~Checkpointing() {
  {
    const std::lock_guard lock(mutex_);
    give_up_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Checkpointing::reserve(std::int64_t state_bytes, std::int64_t rank, std::int64_t ranks) {
  if (busy()) return;
  const auto bytes = static_cast<std::size_t>(checkpoint_slice(state_bytes, rank, ranks).bytes);
  if (copy_.size() < bytes) copy_ = std::vector<std::byte>(bytes);
}

void Checkpointing::begin(const CheckpointId& id, std::int64_t rank, std::int64_t ranks,
                          std::span<const StatePart> state) {
  PACELINE_ASSERT(!busy(), "one part is written at a time");
  const Instant begin = steady_clock.now();
  part_ = {id, rank, ranks, {}, {}};
  copy(state);
  last_ = id;
  copied_in_ = steady_clock.now() - begin;
  written_.reset();
  done_ = hurry_ = false;
  thread_ = std::thread([this] { write(); });
}

/// The slice's bytes, which then lie in one piece; of the others only where they are, since the writer passes
/// them over.
void Checkpointing::copy(std::span<const StatePart> state) {
  const CheckpointSlice slice = slice_of_donor(state, part_.rank, part_.ranks);
  if (std::ssize(copy_) < slice.bytes) copy_.resize(static_cast<std::size_t>(slice.bytes));
  std::vector<std::span<const std::byte>> after;
  std::int64_t at = 0, copied = 0;
  for (const StatePart& one : state) {
    const std::int64_t bytes = std::ssize(one.bytes);
    part_.layout.push_back({one.name, bytes});
    const auto from = static_cast<std::size_t>(std::clamp(slice.offset - at, std::int64_t{0}, bytes));
    const auto to =
        static_cast<std::size_t>(std::clamp(slice.offset + slice.bytes - at, std::int64_t{0}, bytes));
    part_.state.push_back(one.bytes.first(from));
    const auto mine = one.bytes.subspan(from, to - from);
    if (!mine.empty()) std::memcpy(copy_.data() + copied, mine.data(), mine.size());
    copied += std::ssize(mine);
    after.push_back(one.bytes.subspan(to));
    at += bytes;
  }
  part_.state.push_back(std::span<const std::byte>(copy_).first(static_cast<std::size_t>(slice.bytes)));
  part_.state.insert(part_.state.end(), after.begin(), after.end());
}

/// The thread.
void Checkpointing::write() {
  step_back();
  Duration before = worked_so_far();
  const auto keep_going = [this, &before] {
    const Duration worked = worked_so_far();
    return pace(worked - std::exchange(before, worked));
  };
  written_ = write_checkpoint_part(run_dir_, part_.id, part_.rank, part_.ranks, part_.state, keep_going);
  const std::lock_guard lock(mutex_);
  done_ = true;
  changed_.notify_all();
}

/// Waits until what was worked is a small share of the time; false: it is not wanted any more.
bool Checkpointing::pace(Duration worked) {
  std::unique_lock lock(mutex_);
  const auto rest = std::chrono::duration_cast<Duration>(worked * (1 / share_of_a_core - 1));
  changed_.wait_for(lock, rest, [this] { return hurry_ || give_up_; });
  return !give_up_;
}

CheckpointMessage Checkpointing::message() const {
  CheckpointMessage message;
  message.step = part_.id.step;
  message.generation = part_.id.generation;
  message.rank = part_.rank;
  message.ranks = part_.ranks;
  if (!written_->ok()) {
    message.error = written_->error().message;
    return message;
  }
  const CheckpointPart& part = written_->value();
  message.offset = part.slice.offset;
  message.bytes = part.slice.bytes;
  message.checksums = digits_of(part.checksums);
  if (part.rank == 0) message.layout = part_.layout;
  return message;
}

bool Checkpointing::written() const noexcept {
  // Without the lock: a thread of the lowest priority may be kept waiting while it has that.
  return busy() && done_;
}

Status Checkpointing::report() {
  if (!written()) return {};
  thread_.join();
  CheckpointMessage news = message();
  Status sent = link_.send(news);
  if (sent.ok() || sent.error().code != ErrorCode::invalid_argument) return sent;
  // Longer than a message can be. The agent must not wait for it.
  news.error = sent.error().message;
  news.checksums.clear();
  news.layout.clear();
  return link_.send(news);
}

Status Checkpointing::finish() {
  if (!busy()) return {};
  {
    std::unique_lock lock(mutex_);
    hurry_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return done_.load(); });
  }
  return report();
}

Status read_checkpoint(const Checkpoint& checkpoint, std::span<const StatePart> state,
                       const CheckpointSlice* slice) {
  const std::vector<CheckpointEntry>& layout = checkpoint.manifest.layout;
  const auto differs = [&](const std::string& how) {
    return Error{ErrorCode::mismatch,
                 concat("the checkpoint ", checkpoint.folder, " is not of this job's state: ", how,
                        "; is the program of the version that wrote it?")};
  };
  if (layout.size() != state.size())
    return differs(concat("it has ", layout.size(), " parts, and the state has ", state.size()));
  std::vector<std::span<std::byte>> into;
  std::int64_t at = 0;
  for (std::size_t i = 0; i < state.size(); ++i) {
    const std::int64_t bytes = std::ssize(state[i].bytes);
    if (layout[i] != CheckpointEntry{state[i].name, bytes})
      return differs(concat("it has ", layout[i].bytes, " bytes of ", layout[i].name, ", and the state has ",
                            bytes, " of ", state[i].name));
    const std::int64_t from = slice == nullptr ? 0 : std::clamp(slice->offset - at, std::int64_t{0}, bytes);
    const std::int64_t to =
        slice == nullptr ? bytes : std::clamp(slice->offset + slice->bytes - at, from, bytes);
    into.push_back(
        state[i].bytes.subspan(static_cast<std::size_t>(from), static_cast<std::size_t>(to - from)));
    at += bytes;
  }
  return read_state(checkpoint, slice == nullptr ? CheckpointSlice{0, at} : *slice, into);
}

}  // namespace paceline

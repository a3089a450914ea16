#include "messages.hpp"

#include <algorithm>
#include <functional>
#include <mutex>

#include "paceline/base/text.hpp"

namespace paceline::mpi {
namespace {

const SteadyClock steady_clock;
constexpr Duration parting = std::chrono::milliseconds(100);

/// Where messages stay that MPI may still touch.
void keep_for_ever(std::unique_ptr<Message> message) {
  static std::mutex mutex;
  static auto& kept = *new std::vector<std::unique_ptr<Message>>();  // never destroyed
  const std::lock_guard lock(mutex);
  kept.push_back(std::move(message));
}

}  // namespace

Duplicate::~Duplicate() {
  if (comm != MPI_COMM_NULL && is_running()) MPI_Comm_free(&comm);
}

Messages::~Messages() {
  if (!active_.empty()) abandon();
}

/// The communicator has failed with messages under way: takes back what can be taken back.
void Messages::abandon() {
  for (Message* message : active_) {  // whose transfers may be gone
    message->finishes = nullptr;
    message->under_way = nullptr;
  }
  if (is_running()) {
    for (std::size_t i = 0; i < active_.size(); ++i)
      if (active_[i]->receiving) MPI_Cancel(&requests_[i]);
    const Deadline deadline(steady_clock, parting);
    while (!active_.empty() && !deadline.passed()) {
      if (const auto polled = poll(); !polled.ok()) break;
    }
  }
  for (std::unique_ptr<Message>& message : all_)
    if (std::ranges::find(active_, message.get()) != active_.end()) keep_for_ever(std::move(message));
}

Message* Messages::take() {
  if (idle_.empty()) {
    all_.push_back(std::make_unique<Message>());
    return all_.back().get();
  }
  Message* message = idle_.back();
  idle_.pop_back();
  return message;
}

Status Messages::send(Message* message, int peer) {
  message->peer = peer;
  message->receiving = false;
  message->through = false;
  PACELINE_TRY(check(MPI_Isend(message->memory.get(), static_cast<int>(message->bytes), MPI_BYTE,
                               rank_in_mpi(peer), tag_, duplicate_->comm, &message->request),
                     "MPI_Isend", peer));
  active_.push_back(message);
  requests_.push_back(message->request);
  return {};
}

Status Messages::receive(Message* message, int peer) {
  message->peer = peer;
  message->receiving = true;
  message->through = false;
  message->finishes = nullptr;
  PACELINE_TRY(check(MPI_Irecv(message->memory.get(), static_cast<int>(most_message_bytes), MPI_BYTE,
                               rank_in_mpi(peer), tag_, duplicate_->comm, &message->request),
                     "MPI_Irecv", peer));
  active_.push_back(message);
  requests_.push_back(message->request);
  return {};
}

Result<bool> Messages::poll() {
  if (active_.empty()) return false;
  const std::size_t count = active_.size();
  indices_.resize(count);
  statuses_.resize(count);
  int through = 0;
  const int code =
      MPI_Testsome(static_cast<int>(count), requests_.data(), &through, indices_.data(), statuses_.data());
  if (code != MPI_ERR_IN_STATUS) PACELINE_TRY(check(code, "MPI_Testsome"));
  if (through <= 0) return false;  // MPI_UNDEFINED is negative
  for (int i = 0; i < through; ++i) {
    MPI_Status& status = statuses_[static_cast<std::size_t>(i)];
    if (code == MPI_SUCCESS) status.MPI_ERROR = MPI_SUCCESS;  // only set where something failed
    PACELINE_TRY(settle(indices_[static_cast<std::size_t>(i)], status));
  }
  std::sort(indices_.begin(), indices_.begin() + through, std::greater<>());
  for (int i = 0; i < through; ++i) {  // from the back, so that indices stay right
    const auto index = static_cast<std::size_t>(indices_[static_cast<std::size_t>(i)]);
    active_[index] = active_.back();
    requests_[index] = requests_.back();
    active_.pop_back();
    requests_.pop_back();
  }
  return true;
}

Status Messages::settle(int index, const MPI_Status& status) {
  Message* message = active_[static_cast<std::size_t>(index)];
  message->through = true;
  PACELINE_TRY(
      check(status.MPI_ERROR, message->receiving ? "receiving over MPI" : "sending over MPI", message->peer));
  if (message->receiving) {
    int bytes = 0;
    PACELINE_TRY(check(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count"));
    message->bytes = static_cast<std::size_t>(std::max(bytes, 0));
    return {};
  }
  if (message->finishes != nullptr) message->finishes->complete = true;
  message->finishes = nullptr;
  if (message->under_way != nullptr) --*message->under_way;
  idle_.push_back(message);
  return {};
}

}  // namespace paceline::mpi

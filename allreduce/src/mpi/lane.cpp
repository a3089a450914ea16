#include "lane.hpp"

#include <algorithm>
#include <cstring>

#include "paceline/base/text.hpp"

namespace paceline::mpi {
namespace {

// Enough that one is filled or read while others are on their way.
constexpr int most_sends = 4;
constexpr std::size_t most_receives = 4;
constexpr std::size_t header_bytes = sizeof(BlockHeader);

std::size_t messages_of(std::size_t bytes) {
  return (header_bytes + bytes + most_message_bytes - 1) / most_message_bytes;
}

}  // namespace

void Lane::receive(Transfer& transfer) {
  posted_.post(transfer);
  expected_ += messages_of(transfer.header.bytes);
  early_ = false;
}

Result<bool> Lane::advance() {
  PACELINE_TRY(advance_sending());
  return advance_receiving();
}

Status Lane::advance_sending() {
  while (!sends_.empty() && under_way_ < most_sends) {
    Message* message = messages_.take();
    fill(*message);
    ++under_way_;
    PACELINE_TRY(messages_.send(message, peer_));
  }
  return {};
}

void Lane::fill(Message& message) {
  Transfer& transfer = *sends_.front();
  message.bytes = 0;
  message.finishes = nullptr;
  message.under_way = &under_way_;
  if (!header_sent_) {
    std::memcpy(message.memory.get(), &transfer.header, header_bytes);
    message.bytes = header_bytes;
    header_sent_ = true;
  }
  const std::size_t bytes = std::min(most_message_bytes - message.bytes, transfer.header.bytes - sent_);
  if (bytes > 0) std::memcpy(message.memory.get() + message.bytes, transfer.bytes + sent_, bytes);
  message.bytes += bytes;
  sent_ += bytes;
  if (sent_ < transfer.header.bytes) return;
  message.finishes = &transfer;
  sends_.pop_front();
  header_sent_ = false;
  sent_ = 0;
}

Result<bool> Lane::advance_receiving() {
  bool moved = false;
  while (expected_ > 0) {
    while (arriving_.size() < std::min(most_receives, expected_)) {
      arriving_.push_back(messages_.take());
      PACELINE_TRY(messages_.receive(arriving_.back(), peer_));
    }
    if (early_ || !arriving_.front()->through) break;
    PACELINE_ASSIGN(const bool accepted, accept(*arriving_.front()));
    if (!accepted) break;
    messages_.give_back(arriving_.front());
    arriving_.pop_front();
    --expected_;
    moved = true;
  }
  return moved;
}

Result<bool> Lane::accept(const Message& message) {
  std::size_t begin = 0;
  if (receiving_ == nullptr) {
    BlockHeader header;
    if (message.bytes < header_bytes)
      return Error{ErrorCode::corrupt, concat("rank ", peer_, " sent half a header over MPI"), peer_};
    std::memcpy(&header, message.memory.get(), header_bytes);
    PACELINE_ASSIGN(receiving_, posted_.match(rank_, header));
    early_ = receiving_ == nullptr;
    if (early_) return false;
    begin = header_bytes;
    received_ = 0;
  }
  const std::size_t bytes = message.bytes - begin;
  if (bytes > receiving_->header.bytes - received_)
    return Error{ErrorCode::corrupt, concat("rank ", peer_, " sent more than its header says over MPI"),
                 peer_};
  if (bytes > 0) std::memcpy(receiving_->bytes + received_, message.memory.get() + begin, bytes);
  received_ += bytes;
  if (received_ == receiving_->header.bytes) {
    receiving_->complete = true;
    receiving_ = nullptr;
  }
  return true;
}

}  // namespace paceline::mpi

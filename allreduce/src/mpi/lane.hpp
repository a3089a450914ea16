#pragma once

#include <cstddef>
#include <deque>

#include "../posted.hpp"
#include "messages.hpp"

namespace paceline::mpi {

/// The blocks to and from one peer.
class Lane {
 public:
  Lane(Messages& messages, int rank, int peer) : messages_(messages), rank_(rank), peer_(peer) {}
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  void send(Transfer& transfer) { sends_.push_back(&transfer); }
  void receive(Transfer& transfer);

  /// Hands MPI what it takes, and the blocks that came to whom they are for. True if anything moved.
  [[nodiscard]] Result<bool> advance();

 private:
  [[nodiscard]] Status advance_sending();
  [[nodiscard]] Result<bool> advance_receiving();
  /// The next part of the first block in sends_, which leaves with its last.
  void fill(Message& message);
  /// What a message brought; false if its block is for a later time.
  [[nodiscard]] Result<bool> accept(const Message& message);

  Messages& messages_;
  int rank_;
  int peer_;

  std::deque<Transfer*> sends_;  // do not own
  bool header_sent_ = false;     // of the first
  std::size_t sent_ = 0;         // bytes of the first
  int under_way_ = 0;            // messages that MPI has

  PostedReceives posted_;
  std::size_t expected_ = 0;       // messages still to come of what is posted, or came and are not consumed
  std::deque<Message*> arriving_;  // in the order in which they were posted, which is that of the peer
  bool early_ = false;             // the first of them brings a block that nobody expects yet
  Transfer* receiving_ = nullptr;  // block in the middle of which the next message is; does not own
  std::size_t received_ = 0;       // bytes of it
};

}  // namespace paceline::mpi

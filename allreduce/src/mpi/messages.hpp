#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "calls.hpp"
#include "paceline/transport.hpp"

namespace paceline::mpi {

// A block travels as messages: its header with the first of its bytes, then the rest. Both ends know where it
// is cut, and MPI keeps the messages between two ranks in order.
//
// A posted send or receive cannot be taken back: MPI may touch its memory until it ends, and it may never end
// when the other rank is gone. So MPI gets to see only memory of the messages in here, which stays for the
// life of the process if it has to.

/// Bytes of a message: a header and so many that what a message costs hardly counts. (Two ranks of one
/// machine that pose as two nodes, 4 MiB each way: 2.9 ms in messages of 32 KiB, 2.2 of 128, 2.0 of 256.)
inline constexpr std::size_t most_message_bytes = sizeof(BlockHeader) + (std::size_t{256} << 10);

struct Message {
  std::unique_ptr<std::byte[]> memory = std::make_unique_for_overwrite<std::byte[]>(most_message_bytes);
  MPI_Request request = MPI_REQUEST_NULL;
  std::size_t bytes = 0;  ///< sent, or received
  bool receiving = false;
  bool through = false;  ///< MPI touches it no more
  int peer = 0;
  Transfer* finishes = nullptr;  ///< sending: complete when this is through; does not own
  int* under_way = nullptr;      ///< sending: one less when this is through; does not own
};

/// The duplicate of somebody's MPI communicator, freed with its last user.
struct Duplicate {
  MPI_Comm comm = MPI_COMM_NULL;
  int next_tag = 0;
  Duplicate() = default;
  Duplicate(const Duplicate&) = delete;
  Duplicate& operator=(const Duplicate&) = delete;
  ~Duplicate();
};

/// The messages of one transport: those that MPI has, and those that are at hand.
class Messages {
 public:
  /// `outer_ranks`: by peer, its rank in the duplicate; empty where they are the same.
  Messages(std::shared_ptr<Duplicate> duplicate, int tag, std::vector<int> outer_ranks)
      : duplicate_(std::move(duplicate)), tag_(tag), outer_ranks_(std::move(outer_ranks)) {}
  Messages(const Messages&) = delete;
  Messages& operator=(const Messages&) = delete;
  ~Messages();

  [[nodiscard]] Message* take();
  void give_back(Message* message) { idle_.push_back(message); }

  /// Sets Transfer::complete of what it finishes when it is through, and takes it back.
  [[nodiscard]] Status send(Message* message, int peer);
  /// Through, it belongs to the caller, who gives it back.
  [[nodiscard]] Status receive(Message* message, int peer);
  /// Looks which messages are through; true if there were any.
  [[nodiscard]] Result<bool> poll();

 private:
  [[nodiscard]] Status settle(int index, const MPI_Status& status);
  void abandon();
  [[nodiscard]] int rank_in_mpi(int peer) const {
    return outer_ranks_.empty() ? peer : outer_ranks_[static_cast<std::size_t>(peer)];
  }

  std::shared_ptr<Duplicate> duplicate_;
  int tag_;
  std::vector<int> outer_ranks_;
  std::vector<std::unique_ptr<Message>> all_;
  std::vector<Message*> idle_;
  std::vector<Message*> active_;       // what MPI has
  std::vector<MPI_Request> requests_;  // of active_, in the same order
  std::vector<int> indices_;
  std::vector<MPI_Status> statuses_;
};

}  // namespace paceline::mpi

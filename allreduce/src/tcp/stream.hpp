#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "../posted.hpp"
#include "cipher.hpp"
#include "paceline/base/fd.hpp"

namespace paceline::tcp {

/// One connection to a peer, and the blocks on it. Encrypted, a block travels as records: its header, then
/// its bytes, 64 KiB at a time, each followed by a tag.
class Stream {
 public:
  Stream(int rank, int peer, UniqueFd connection, std::unique_ptr<Cipher> cipher)
      : rank_(rank), peer_(peer), connection_(std::move(connection)), cipher_(std::move(cipher)) {}

  void send(Transfer& transfer) { sends_.push_back(&transfer); }

  /// Move what the socket takes or has now; true if anything moved. `posted` are the peer's.
  [[nodiscard]] Result<bool> advance_sending();
  [[nodiscard]] Result<bool> advance_receiving(PostedReceives& posted);

  [[nodiscard]] int fd() const noexcept { return connection_.get(); }
  [[nodiscard]] int peer() const noexcept { return peer_; }
  [[nodiscard]] bool wants_to_send() const noexcept { return !sends_.empty(); }
  /// A block is on its way in, or could be. False while one that came early waits to be expected.
  [[nodiscard]] bool wants_to_receive(const PostedReceives& posted) const noexcept {
    return !ended_ && (receiving_ != nullptr || (!posted.empty() && !early_));
  }
  [[nodiscard]] std::uint64_t blocks_received() const noexcept { return blocks_received_; }
  void count_blocks_anew() noexcept { blocks_received_ = 0; }
  /// The peer has closed it between two blocks: what is still to come must come on another.
  [[nodiscard]] bool ended() const noexcept { return ended_; }
  [[nodiscard]] Error broken(const std::string& how) const;
  /// Something was posted: look again whether the block that came early belongs to it.
  void reconsider() noexcept { early_ = false; }

 private:
  static constexpr std::size_t record_bytes = 64U << 10;

  [[nodiscard]] Result<std::size_t> put(const std::byte* first, std::size_t first_bytes,
                                        const std::byte* second, std::size_t second_bytes);
  [[nodiscard]] Result<std::size_t> get(std::byte* into, std::size_t bytes);
  [[nodiscard]] Result<bool> send_plain(Transfer& transfer);
  [[nodiscard]] Result<bool> send_sealed(Transfer& transfer);
  /// The next `bytes` plain bytes of the block into `into`; false if they are not all there yet.
  [[nodiscard]] Result<bool> receive_plain(std::byte* into, std::size_t bytes);
  [[nodiscard]] Result<bool> receive_sealed(std::byte* into, std::size_t bytes);
  [[nodiscard]] Result<bool> receive(std::byte* into, std::size_t bytes);
  int rank_;
  int peer_;
  UniqueFd connection_;
  std::unique_ptr<Cipher> cipher_;  // null: not encrypted

  std::deque<Transfer*> sends_;  // the first is on its way; do not own
  std::size_t sent_ = 0;         // plain bytes of it, header included
  std::vector<std::byte> sealed_out_;
  std::size_t sealed_out_done_ = 0;

  BlockHeader header_;  // of the block that comes in
  bool header_complete_ = false;
  bool ended_ = false;
  bool early_ = false;             // header_ is complete, and nobody expects it yet
  Transfer* receiving_ = nullptr;  // does not own
  std::size_t received_ = 0;       // of what receive() was asked for
  bool moved_ = false;
  std::uint64_t blocks_received_ = 0;
  std::vector<std::byte> sealed_in_;
  std::size_t sealed_in_done_ = 0;
};

}  // namespace paceline::tcp

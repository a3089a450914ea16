#include "stream.hpp"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

#include "paceline/base/text.hpp"

namespace paceline::tcp {

Error Stream::broken(const std::string& how) const {
  return {ErrorCode::peer_lost, concat("rank ", peer_, " is lost: ", how), peer_};
}

/// Bytes that the socket took; 0 when it is full.
Result<std::size_t> Stream::put(const std::byte* first, std::size_t first_bytes, const std::byte* second,
                                std::size_t second_bytes) {
  // sendmsg only reads; iovec has one type for both directions.
  iovec pieces[2] = {{const_cast<std::byte*>(first), first_bytes},
                     {const_cast<std::byte*>(second), second_bytes}};
  msghdr message{};
  message.msg_iov = first_bytes > 0 ? pieces : pieces + 1;
  message.msg_iovlen = first_bytes > 0 && second_bytes > 0 ? 2 : 1;
  while (true) {
    const ssize_t done = ::sendmsg(connection_.get(), &message, MSG_NOSIGNAL);
    if (done >= 0) return static_cast<std::size_t>(done);
    if (errno == EAGAIN) return std::size_t{0};
    if (errno != EINTR) return broken(system_error("sending to it failed").message);
  }
}

/// Bytes that were there; 0 when none are, or when the peer has closed the connection between two blocks.
Result<std::size_t> Stream::get(std::byte* into, std::size_t bytes) {
  while (true) {
    const ssize_t done = ::recv(connection_.get(), into, bytes, 0);
    if (done > 0) return static_cast<std::size_t>(done);
    if (done == 0 && !header_complete_ && received_ == 0 && sealed_in_done_ == 0) {
      ended_ = true;
      return std::size_t{0};
    }
    if (done == 0) return broken("its process ended or its connection was closed");
    if (errno == EAGAIN) return std::size_t{0};
    if (errno != EINTR) return broken(system_error("receiving from it failed").message);
  }
}

Result<bool> Stream::advance_sending() {
  bool moved = false;
  while (!sends_.empty()) {
    Transfer& transfer = *sends_.front();
    PACELINE_ASSIGN(const bool progress, cipher_ == nullptr ? send_plain(transfer) : send_sealed(transfer));
    moved = moved || progress;
    if (sent_ < sizeof(BlockHeader) + transfer.header.bytes || sealed_out_done_ < sealed_out_.size()) break;
    transfer.complete = true;
    sends_.pop_front();
    sent_ = 0;
  }
  return moved;
}

Result<bool> Stream::send_plain(Transfer& transfer) {
  constexpr std::size_t header_bytes = sizeof(BlockHeader);
  const std::size_t bytes = transfer.header.bytes;
  const std::size_t before = sent_;
  while (sent_ < header_bytes + bytes) {
    const std::size_t body = sent_ > header_bytes ? sent_ - header_bytes : 0;
    const std::size_t head = std::min(sent_, header_bytes);
    PACELINE_ASSIGN(const std::size_t put_bytes,
                    put(reinterpret_cast<const std::byte*>(&transfer.header) + head, header_bytes - head,
                        transfer.bytes + body, bytes - body));
    if (put_bytes == 0) break;
    sent_ += put_bytes;
  }
  return sent_ > before;
}

Result<bool> Stream::send_sealed(Transfer& transfer) {
  constexpr std::size_t header_bytes = sizeof(BlockHeader);
  bool moved = false;
  while (true) {
    if (sealed_out_done_ == sealed_out_.size()) {
      if (sent_ == header_bytes + transfer.header.bytes) return moved;
      const bool head = sent_ == 0;
      const std::byte* plain = head ? reinterpret_cast<const std::byte*>(&transfer.header)
                                    : transfer.bytes + (sent_ - header_bytes);
      const std::size_t bytes =
          head ? header_bytes : std::min(record_bytes, header_bytes + transfer.header.bytes - sent_);
      sealed_out_.resize(bytes + Cipher::tag_bytes);
      if (!cipher_->seal(sealed_out_.data(), plain, bytes))
        return Error{ErrorCode::internal, "OpenSSL could not encrypt a block"};
      sealed_out_done_ = 0;
      sent_ += bytes;
    }
    PACELINE_ASSIGN(const std::size_t put_bytes, put(sealed_out_.data() + sealed_out_done_,
                                                     sealed_out_.size() - sealed_out_done_, nullptr, 0));
    if (put_bytes == 0) return moved;
    sealed_out_done_ += put_bytes;
    moved = true;
  }
}

Result<bool> Stream::receive_plain(std::byte* into, std::size_t bytes) {
  while (received_ < bytes) {
    PACELINE_ASSIGN(const std::size_t got, get(into + received_, bytes - received_));
    if (got == 0) return false;
    moved_ = true;
    received_ += got;
  }
  received_ = 0;
  return true;
}

Result<bool> Stream::receive_sealed(std::byte* into, std::size_t bytes) {
  while (received_ < bytes) {
    const std::size_t plain = std::min(record_bytes, bytes - received_);
    sealed_in_.resize(record_bytes + Cipher::tag_bytes);
    while (sealed_in_done_ < plain + Cipher::tag_bytes) {
      PACELINE_ASSIGN(const std::size_t got,
                      get(sealed_in_.data() + sealed_in_done_, plain + Cipher::tag_bytes - sealed_in_done_));
      if (got == 0) return false;
      moved_ = true;
      sealed_in_done_ += got;
    }
    sealed_in_done_ = 0;
    if (!cipher_->open(into + received_, sealed_in_.data(), plain))
      return Error{ErrorCode::corrupt, concat("what came from rank ", peer_, " was changed on its way"),
                   peer_};
    received_ += plain;
  }
  received_ = 0;
  return true;
}

Result<bool> Stream::receive(std::byte* into, std::size_t bytes) {
  if (bytes == 0) return true;
  return cipher_ == nullptr ? receive_plain(into, bytes) : receive_sealed(into, bytes);
}

Result<bool> Stream::advance_receiving(PostedReceives& posted) {
  moved_ = false;
  while (wants_to_receive(posted)) {
    if (!header_complete_) {
      PACELINE_ASSIGN(header_complete_, receive(reinterpret_cast<std::byte*>(&header_), sizeof header_));
      if (!header_complete_) break;
    }
    if (receiving_ == nullptr) {
      PACELINE_ASSIGN(receiving_, posted.match(rank_, header_));
      early_ = receiving_ == nullptr;
      if (early_) break;
    }
    PACELINE_ASSIGN(const bool complete, receive(receiving_->bytes, receiving_->header.bytes));
    if (!complete) break;
    receiving_->complete = true;
    receiving_ = nullptr;
    header_complete_ = false;
    moved_ = true;
    ++blocks_received_;
  }
  return moved_;
}

}  // namespace paceline::tcp

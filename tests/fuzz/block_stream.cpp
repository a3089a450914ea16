// The data connection between two ranks: blocks that are expected are taken, anything else is an error that
// names the peer, and memory is only written where a block was expected.

#include <cstring>
#include <vector>

#include "../../allreduce/src/tcp/stream.hpp"
#include "sockets.hpp"

using namespace paceline;

namespace {

constexpr std::size_t block_bytes = 24;
constexpr std::byte untouched{0xa5};

void run(const unsigned char* data, std::size_t size, bool encrypted) {
  std::unique_ptr<tcp::Cipher> cipher;
  if (encrypted) {
    auto made = tcp::Cipher::make(Digest{}, Digest{});
    if (!made.ok()) return;
    cipher = std::move(*made);
  }
  auto connection = fuzz::connection_with(data, size, true);
  tcp::Stream stream(0, 1, std::move(connection.near), std::move(cipher));
  PostedReceives posted;
  std::vector<std::byte> memory(4 * block_bytes, untouched);
  std::vector<Transfer> transfers(2);
  Descriptor descriptor;
  for (std::size_t i = 0; i < transfers.size(); ++i) {
    transfers[i].peer = 1;
    transfers[i].bytes = memory.data() + 2 * i * block_bytes;
    transfers[i].header.part = static_cast<std::uint32_t>(i);
    transfers[i].header.bytes = block_bytes;
    std::memcpy(transfers[i].header.descriptor, &descriptor, sizeof descriptor);
    posted.post(transfers[i]);
  }
  for (int i = 0; i < 8 && stream.wants_to_receive(posted); ++i) {
    const auto moved = stream.advance_receiving(posted);
    if (!moved.ok() && moved.error().rank != 1 && moved.error().code != ErrorCode::internal) std::abort();
    if (!moved.ok() || !*moved) break;
  }
  for (std::size_t i = 0; i < transfers.size(); ++i)
    for (std::size_t k = 0; k < block_bytes; ++k)
      if (memory[(2 * i + 1) * block_bytes + k] != untouched) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  if (size == 0) return 0;
  run(data + 1, size - 1, data[0] % 4 == 3);
  return 0;
}

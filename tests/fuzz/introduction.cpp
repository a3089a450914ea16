// Both sides of an introduction, and the frames under it, with a stranger at the other end: an error value in
// time, and never an introduction.

#include "../../allreduce/src/tcp/introduction.hpp"
#include "sockets.hpp"

using namespace paceline;

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  static AbortSignal never;
  static const bool opened = never.open().ok();
  if (!opened || size == 0) return 0;
  const SteadyClock clock;
  const Deadline deadline(clock, std::chrono::seconds(1));
  const tcp::Patience patience{deadline, never};
  const auto as_acceptor = fuzz::connection_with(data + 1, size - 1, true);
  const auto as_connector = fuzz::connection_with(data + 1, size - 1, true);
  if (tcp::hear_introduction(as_acceptor.near.get(), "secret", patience).ok()) std::abort();
  if (tcp::introduce(as_connector.near.get(), wire::FrameType::hello, "me", "secret", patience).ok())
    std::abort();
  const auto frame = fuzz::connection_with(data + 1, size - 1, true);
  for (int i = 0; i < 8; ++i)
    if (!tcp::receive_frame(frame.near.get(), 1U << (data[0] % 20), patience).ok()) break;
  return 0;
}

// A control connection of rank 0 whose other end sends anything: the rank at the other end is lost, has left
// or has aborted, or nothing has happened.

#include "../../allreduce/src/control.hpp"
#include "sockets.hpp"

using namespace paceline;

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  if (size == 0) return 0;
  AbortSignal abort;
  if (!abort.open().ok()) return 0;
  const Layout layout(0, {"a", "b"}, {"a", "b"});
  auto connection = fuzz::connection_with(data + 1, size - 1, data[0] % 2 == 0);
  std::vector<UniqueFd> connections(2);
  connections[1] = std::move(connection.near);
  Control control(layout, std::move(connections), abort);
  if (!control.start().ok()) return 0;
  control.begin(data[0]);
  if (data[0] % 2 == 0)  // it closes: sooner or later that must be noticed, or it said goodbye
    for (int i = 0; i < 200 && !abort.raised(); ++i) {
      char byte = 0;
      // The listener closes its end when it has read ours to the end.
      if (::recv(connection.far.get(), &byte, 1, MSG_DONTWAIT) == 0) break;
      ::usleep(50);
    }
  control.leave(0);
  return 0;
}

// The messages of the meeting and of the control connections: any bytes give a message or nothing.

#include <cstdlib>
#include <string_view>

#include "../../allreduce/src/wire.hpp"

namespace wire = paceline::wire;

namespace {

/// What was understood must survive being written and read again.
template <class T, class Decode>
void check(std::string_view bytes, Decode decode) {
  const auto message = decode(bytes);
  if (!message.has_value()) return;
  const std::string again = wire::encode(*message);
  if (again != bytes || !decode(again).has_value()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  check<wire::Hello>(bytes, wire::decode_hello);
  check<std::vector<wire::Hello>>(bytes, wire::decode_roster);
  check<wire::Notice>(bytes, wire::decode_notice);
  check<wire::LinkHello>(bytes, wire::decode_link_hello);
  check<wire::Goodbye>(bytes, wire::decode_goodbye);
  return 0;
}

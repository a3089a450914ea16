#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "../abort_signal.hpp"
#include "../wire.hpp"
#include "paceline/base/clock.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"

namespace paceline::tcp {

/// Every wait in here ends by success, by `deadline` (timeout) or by `abort` (its error).
struct Patience {
  const Deadline& deadline;
  const AbortSignal& abort;  // does not own; the communicator's
};

/// Until `fd` has one of `events` (or an error condition, which the next call on it reports).
[[nodiscard]] Status wait_for(int fd, short events, const Patience& patience);

/// A non-blocking socket that listens on `host`; port 0: any, see port_of. already_exists when taken.
[[nodiscard]] Result<UniqueFd> listen_on(const std::string& host, std::uint16_t port);
/// The same on a free port of `ports` ("20000-20100", or one number), or on any if that is empty.
[[nodiscard]] Result<UniqueFd> listen_in(const std::string& host, const std::string& ports);
/// The numeric address of a network interface of this machine; IPv4 if it has one.
[[nodiscard]] Result<std::string> address_of_interface(const std::string& name);
[[nodiscard]] Result<std::uint16_t> port_of(int listener);
/// The address on this side of a connection, in numbers.
[[nodiscard]] Result<std::string> local_address(int connection);

/// Connects, again and again until the deadline: the other side may not listen yet.
[[nodiscard]] Result<UniqueFd> connect_to(const std::string& host, std::uint16_t port,
                                          const Patience& patience);
/// The next connection, non-blocking and prepared; nothing if none came in time.
[[nodiscard]] Result<UniqueFd> accept_from(int listener, const Patience& patience);

/// Prepares a connection: non-blocking, no delay, and dead peers found by keepalive.
[[nodiscard]] Status prepare(int connection);

struct Frame {
  wire::FrameType type{};
  std::string payload;
};

[[nodiscard]] Status send_frame(int connection, wire::FrameType type, std::string_view payload,
                                const Patience& patience);
/// Errors: peer_lost at end of stream, corrupt when it is not our protocol.
[[nodiscard]] Result<Frame> receive_frame(int connection, std::uint32_t most_bytes, const Patience& patience);

}  // namespace paceline::tcp

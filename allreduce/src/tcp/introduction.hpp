#pragma once

#include <string>
#include <string_view>

#include "../sha256.hpp"
#include "socket.hpp"

namespace paceline::tcp {

// How two ends of a fresh connection prove to each other that they know the job's secret, without sending it:
//   connector -> acceptor   hello or link: its nonce, and what it says of itself
//   acceptor  -> connector  challenge: its nonce, HMAC(secret, "acceptor", both nonces, what was said)
//   connector -> acceptor   proof: HMAC(secret, "connector", both nonces, what was said)
// Keys for encryption come from the secret and both nonces.

/// One key per direction.
struct Keys {
  Digest to_acceptor{};
  Digest to_connector{};
};

/// The connector's side. `type` is hello or link. Errors: invalid_argument (it refused us, or does not know
/// the secret), peer_lost, timeout, corrupt.
[[nodiscard]] Result<Keys> introduce(int connection, wire::FrameType type, std::string_view introduction,
                                     const std::string& secret, const Patience& patience);

struct Introduction {
  wire::FrameType type{};
  std::string payload;
  Keys keys;
};
/// The acceptor's side. Errors as above; whoever does not prove that it knows the secret is told so.
[[nodiscard]] Result<Introduction> hear_introduction(int connection, const std::string& secret,
                                                     const Patience& patience);

}  // namespace paceline::tcp

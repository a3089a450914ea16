#include "introduction.hpp"

#include <sys/random.h>

#include "paceline/base/text.hpp"

namespace paceline::tcp {
namespace {

constexpr std::size_t most_introduction_bytes = 64U << 10;
constexpr std::size_t nonce_bytes = sizeof(Digest);

std::string text_of(const Digest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

Result<std::string> fresh_nonce() {
  Digest random;
  if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size()))
    return system_error("getrandom");
  return text_of(random);
}

/// What both ends know: each field begins where the reader knows it to, so nothing can be shifted.
struct Transcript {
  std::string connector_nonce;
  std::string acceptor_nonce;
  std::string introduction;

  [[nodiscard]] std::string proof(const std::string& secret, std::string_view role) const {
    return text_of(
        hmac_sha256(secret, concat("paceline ", role, "\n", connector_nonce, acceptor_nonce, introduction)));
  }
  [[nodiscard]] Keys keys(const std::string& secret) const {
    const std::string nonces = connector_nonce + acceptor_nonce;
    return {hmac_sha256(secret, concat("paceline key to acceptor\n", nonces)),
            hmac_sha256(secret, concat("paceline key to connector\n", nonces))};
  }
};

}  // namespace

Result<Keys> introduce(int connection, wire::FrameType type, std::string_view introduction,
                       const std::string& secret, const Patience& patience) {
  Transcript transcript;
  transcript.introduction = introduction;
  PACELINE_ASSIGN(transcript.connector_nonce, fresh_nonce());
  PACELINE_TRY(send_frame(connection, type, transcript.connector_nonce + transcript.introduction, patience));
  PACELINE_ASSIGN(const Frame frame, receive_frame(connection, most_introduction_bytes, patience));
  if (frame.type == wire::FrameType::reject)
    return Error{ErrorCode::invalid_argument, concat("it refused this rank: ", frame.payload)};
  if (frame.type != wire::FrameType::challenge || frame.payload.size() != 2 * nonce_bytes)
    return Error{ErrorCode::corrupt, "it does not answer as a rank does"};
  transcript.acceptor_nonce = frame.payload.substr(0, nonce_bytes);
  if (!wire::same_secret(transcript.proof(secret, "acceptor"), frame.payload.substr(nonce_bytes)))
    return Error{ErrorCode::invalid_argument,
                 "its secret is not this rank's: give all ranks of a job the same (PACELINE_SECRET)"};
  PACELINE_TRY(
      send_frame(connection, wire::FrameType::proof, transcript.proof(secret, "connector"), patience));
  return transcript.keys(secret);
}

Result<Introduction> hear_introduction(int connection, const std::string& secret, const Patience& patience) {
  PACELINE_ASSIGN(const Frame first, receive_frame(connection, most_introduction_bytes, patience));
  const bool introduces = first.type == wire::FrameType::hello || first.type == wire::FrameType::link;
  if (!introduces || first.payload.size() < nonce_bytes)
    return Error{ErrorCode::corrupt, "it does not introduce itself as a rank does"};
  Transcript transcript;
  transcript.connector_nonce = first.payload.substr(0, nonce_bytes);
  transcript.introduction = first.payload.substr(nonce_bytes);
  PACELINE_ASSIGN(transcript.acceptor_nonce, fresh_nonce());
  PACELINE_TRY(send_frame(connection, wire::FrameType::challenge,
                          transcript.acceptor_nonce + transcript.proof(secret, "acceptor"), patience));
  const auto proof = receive_frame(connection, nonce_bytes, patience);
  if (!proof.ok() || proof.value().type != wire::FrameType::proof ||
      !wire::same_secret(transcript.proof(secret, "connector"), proof.value().payload))
    return Error{ErrorCode::invalid_argument, "its secret is not this job's"};
  return Introduction{first.type, transcript.introduction, transcript.keys(secret)};
}

}  // namespace paceline::tcp

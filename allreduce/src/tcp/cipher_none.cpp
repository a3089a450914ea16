#include "cipher.hpp"

namespace paceline::tcp {

Result<std::unique_ptr<Cipher>> Cipher::make(const Digest&, const Digest&) {
  return Error{
      ErrorCode::unsupported,
      "this Paceline was built without OpenSSL, so it cannot encrypt: install libssl-dev and build again"};
}

}  // namespace paceline::tcp

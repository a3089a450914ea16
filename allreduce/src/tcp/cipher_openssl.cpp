#include <openssl/evp.h>

#include <cstdint>
#include <cstring>

#include "cipher.hpp"

namespace paceline::tcp {
namespace {

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const { ::EVP_CIPHER_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

/// 96 bits, of which the count of records fills 64: keys are fresh for each connection and direction.
struct Nonce {
  unsigned char bytes[12] = {};
  explicit Nonce(std::uint64_t count) { std::memcpy(bytes, &count, sizeof count); }
};

class Gcm final : public Cipher {
 public:
  Gcm(Context sending, Context receiving) : sending_(std::move(sending)), receiving_(std::move(receiving)) {}

  bool seal(std::byte* sealed, const std::byte* plain, std::size_t bytes) override {
    const Nonce nonce(sealed_++);
    auto* out = reinterpret_cast<unsigned char*>(sealed);
    int length = 0;
    return ::EVP_EncryptInit_ex(sending_.get(), nullptr, nullptr, nullptr, nonce.bytes) == 1 &&
           ::EVP_EncryptUpdate(sending_.get(), out, &length, reinterpret_cast<const unsigned char*>(plain),
                               static_cast<int>(bytes)) == 1 &&
           ::EVP_EncryptFinal_ex(sending_.get(), out + length, &length) == 1 &&
           ::EVP_CIPHER_CTX_ctrl(sending_.get(), EVP_CTRL_GCM_GET_TAG, tag_bytes, out + bytes) == 1;
  }

  bool open(std::byte* plain, const std::byte* sealed, std::size_t bytes) override {
    const Nonce nonce(opened_++);
    unsigned char tag[tag_bytes];
    std::memcpy(tag, sealed + bytes, sizeof tag);
    auto* out = reinterpret_cast<unsigned char*>(plain);
    int length = 0;
    return ::EVP_DecryptInit_ex(receiving_.get(), nullptr, nullptr, nullptr, nonce.bytes) == 1 &&
           ::EVP_DecryptUpdate(receiving_.get(), out, &length, reinterpret_cast<const unsigned char*>(sealed),
                               static_cast<int>(bytes)) == 1 &&
           ::EVP_CIPHER_CTX_ctrl(receiving_.get(), EVP_CTRL_GCM_SET_TAG, tag_bytes, tag) == 1 &&
           ::EVP_DecryptFinal_ex(receiving_.get(), out + length, &length) == 1;
  }

 private:
  Context sending_;
  Context receiving_;
  std::uint64_t sealed_ = 0;
  std::uint64_t opened_ = 0;
};

}  // namespace

Result<std::unique_ptr<Cipher>> Cipher::make(const Digest& sending_key, const Digest& receiving_key) {
  Context sending(::EVP_CIPHER_CTX_new());
  Context receiving(::EVP_CIPHER_CTX_new());
  if (sending == nullptr || receiving == nullptr ||
      ::EVP_EncryptInit_ex(sending.get(), ::EVP_aes_256_gcm(), nullptr, sending_key.data(), nullptr) != 1 ||
      ::EVP_DecryptInit_ex(receiving.get(), ::EVP_aes_256_gcm(), nullptr, receiving_key.data(), nullptr) != 1)
    return Error{ErrorCode::internal, "OpenSSL cannot set up AES-256-GCM"};
  return std::unique_ptr<Cipher>(std::make_unique<Gcm>(std::move(sending), std::move(receiving)));
}

}  // namespace paceline::tcp

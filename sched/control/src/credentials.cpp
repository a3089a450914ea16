#include "paceline/control/credentials.hpp"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <cerrno>
#include <memory>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline::control {
namespace {

template <auto Free>
struct Freed {
  template <class T>
  void operator()(T* pointer) const {
    Free(pointer);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Memory = std::unique_ptr<BIO, Freed<BIO_free_all>>;
using Extension = std::unique_ptr<X509_EXTENSION, Freed<X509_EXTENSION_free>>;

// Longer than any job; whoever has the key has the job, so that a shorter one would protect nobody.
constexpr long lifetime_s = 10L * 365 * 24 * 3600;
// Clocks of nodes differ.
constexpr long clock_slack_s = 24L * 3600;

bool extend(X509* certificate, int what, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, what, value.c_str()));
  return extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1;
}

Certificate sign_own(EVP_PKEY* key) {
  Certificate certificate(X509_new());
  if (certificate == nullptr) return nullptr;
  X509* const made = certificate.get();
  X509_NAME* const name = X509_get_subject_name(made);
  const auto* const text = reinterpret_cast<const unsigned char*>(certificate_name);
  const bool well =
      X509_set_version(made, 2) == 1 && ASN1_INTEGER_set(X509_get_serialNumber(made), 1) == 1 &&
      X509_gmtime_adj(X509_getm_notBefore(made), -clock_slack_s) != nullptr &&
      X509_gmtime_adj(X509_getm_notAfter(made), lifetime_s) != nullptr && X509_set_pubkey(made, key) == 1 &&
      X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, text, -1, -1, 0) == 1 &&
      X509_set_issuer_name(made, name) == 1 && extend(made, NID_basic_constraints, "critical,CA:TRUE") &&
      extend(made, NID_subject_alt_name, concat("DNS:", certificate_name)) &&
      X509_sign(made, key, EVP_sha256()) > 0;
  return well ? std::move(certificate) : nullptr;
}

std::string text_of(BIO* memory) {
  char* bytes = nullptr;
  const long length = BIO_get_mem_data(memory, &bytes);
  return length > 0 ? std::string(bytes, static_cast<std::size_t>(length)) : std::string();
}

Result<Credentials> make(const std::string& secret) {
  const Error failed{ErrorCode::internal, "OpenSSL could not make the job's credentials"};
  const Key key(EVP_EC_gen("P-256"));
  if (key == nullptr) return failed;
  const Certificate certificate = sign_own(key.get());
  const Memory key_text(BIO_new(BIO_s_mem())), certificate_text(BIO_new(BIO_s_mem()));
  if (certificate == nullptr || key_text == nullptr || certificate_text == nullptr ||
      PEM_write_bio_PrivateKey(key_text.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1 ||
      PEM_write_bio_X509(certificate_text.get(), certificate.get()) != 1)
    return failed;
  return Credentials{text_of(certificate_text.get()), text_of(key_text.get()), secret};
}

std::string folder_of(const std::string& run_dir) {
  return run_dir + "/credentials";
}

}  // namespace

void keep_tls_until_exit() {
  // It can only fail where memory is short, and then OpenSSL will say so itself.
  static_cast<void>(OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, nullptr));
}

Result<Credentials> make_credentials(const std::string& run_dir, const std::string& secret) {
  PACELINE_ASSIGN(Credentials credentials, make(secret));
  const std::string folder = folder_of(run_dir);
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return system_error(concat("cannot make ", shown(folder)));
  PACELINE_TRY(write_file_atomically(folder + "/secret", credentials.secret, 0600));
  PACELINE_TRY(write_file_atomically(folder + "/key.pem", credentials.key, 0600));
  PACELINE_TRY(write_file_atomically(folder + "/certificate.pem", credentials.certificate, 0600));
  return credentials;
}

Result<Credentials> read_credentials(const std::string& run_dir) {
  const std::string folder = folder_of(run_dir);
  Credentials credentials;
  PACELINE_ASSIGN(credentials.certificate, read_file(folder + "/certificate.pem"));
  PACELINE_ASSIGN(credentials.key, read_file(folder + "/key.pem"));
  PACELINE_ASSIGN(credentials.secret, read_file(folder + "/secret"));
  return credentials;
}

}  // namespace paceline::control

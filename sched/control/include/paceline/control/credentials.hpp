#pragma once

#include <string>

#include "paceline/base/result.hpp"

namespace paceline::control {

/// To be called first of all in a program that may speak TLS: OpenSSL is not to clean up at exit. gRPC's
/// threads end some time after the last object that needed them, and would find gone what they still use: a
/// crash of a program that has done its work. The system takes the memory back anyway.
void keep_tls_until_exit();

/// What the processes of one job know each other by: a certificate that each of them shows and expects, and a
/// secret for the data plane. Made for each job, in RUN/credentials, for its owner's eyes alone.
struct Credentials {
  std::string certificate;  ///< PEM; signed by itself
  std::string key;          ///< PEM
  std::string secret;
};

/// The name that the certificate is for, whatever the machine.
inline constexpr const char* certificate_name = "job.paceline";

/// Makes them and writes them down.
[[nodiscard]] Result<Credentials> make_credentials(const std::string& run_dir, const std::string& secret);

/// Those that are there. permission_denied where another user owns the job.
[[nodiscard]] Result<Credentials> read_credentials(const std::string& run_dir);

}  // namespace paceline::control

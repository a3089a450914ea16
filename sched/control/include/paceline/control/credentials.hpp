#pragma once

#include <string>

#include "paceline/base/result.hpp"

namespace paceline::control {

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

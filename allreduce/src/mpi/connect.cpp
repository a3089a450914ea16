#include <sys/random.h>

#include <array>
#include <cstdint>
#include <span>

#include "../c_api/handles.hpp"
#include "../node_identity.hpp"
#include "../tcp/socket.hpp"
#include "meeting.hpp"
#include "paceline/base/hash.hpp"
#include "paceline/base/text.hpp"
#include "route.hpp"
#include "transport.hpp"

namespace paceline {
namespace mpi {
namespace {

const SteadyClock steady_clock;
constexpr std::size_t mpi_piece_bytes = std::size_t{512} << 10;

/// True for MPI, false for TCP.
Result<bool> over_mpi(const CommunicatorOptions& options, MpiTransport use) {
  if (options.transport && use == MpiTransport::point_to_point)
    return Error{ErrorCode::invalid_argument, "the options bring a transport, and MPI is asked for, too"};
  if (options.encrypt && use == MpiTransport::point_to_point)
    return Error{ErrorCode::invalid_argument,
                 "what goes over MPI cannot be encrypted: use MpiTransport::none"};
  if (options.transport || use == MpiTransport::none) return false;
  if (use == MpiTransport::point_to_point) return true;
  const std::string named = environment("PACELINE_TRANSPORT").value_or(options.encrypt ? "tcp" : "mpi");
  if (named != "mpi" && named != "tcp")
    return Error{ErrorCode::invalid_argument,
                 concat("PACELINE_TRANSPORT is \"", named, "\": it must be mpi or tcp")};
  if (named == "mpi" && options.encrypt)
    return Error{ErrorCode::invalid_argument,
                 "PACELINE_TRANSPORT is mpi, and what goes over MPI cannot be encrypted: use tcp"};
  return named == "mpi";
}

Status check_mpi(MPI_Comm mpi) {
  if (!is_running())
    return Error{ErrorCode::invalid_argument,
                 "MPI is not running: call this between MPI_Init and MPI_Finalize"};
  if (mpi == MPI_COMM_NULL) return Error{ErrorCode::invalid_argument, "the MPI communicator is null"};
  int inter = 0;
  PACELINE_TRY(check(MPI_Comm_test_inter(mpi, &inter), "MPI_Comm_test_inter"));
  if (inter != 0)
    return Error{ErrorCode::invalid_argument,
                 "this is an inter-communicator: merge it first (MPI_Intercomm_merge)"};
  return {};
}

std::uint64_t hash_of_host() {
  std::uint64_t hash = 0;
  for (const char c : host_identity().key) hash = mix64(hash, static_cast<unsigned char>(c));
  return hash;
}

Result<std::string> random_secret() {
  std::array<std::byte, 32> random{};
  if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size()))
    return system_error("getrandom");
  return to_hex(random);
}

Result<std::string> own_address(bool one_host, const std::string& interface) {
  if (one_host) return std::string("127.0.0.1");
  return interface.empty() ? address_of_default_route() : tcp::address_of_interface(interface);
}

/// Makes rank 0 listen where the others reach it.
Status listen(CommunicatorOptions& options, bool one_host, Invitation& invitation) {
  const std::string interface =
      options.interface.empty() ? environment("PACELINE_INTERFACE").value_or("") : options.interface;
  const std::string ports =
      options.ports.empty() ? environment("PACELINE_PORTS").value_or("") : options.ports;
  if (options.listener.valid()) {
    PACELINE_ASSIGN(invitation.host, tcp::local_address(options.listener.get()));
  } else {
    PACELINE_ASSIGN(invitation.host, own_address(one_host, interface));
    PACELINE_ASSIGN(options.listener, tcp::listen_in(invitation.host, ports));
  }
  PACELINE_ASSIGN(invitation.port, tcp::port_of(options.listener.get()));
  if (options.secret.empty()) {
    PACELINE_ASSIGN(options.secret, random_secret());
  }
  invitation.secret = options.secret;
  return {};
}

/// Rank 0's invitation: made there, and spread with what went wrong if it could not be made.
Result<Invitation> invite(MPI_Comm comm, int rank, bool one_host, CommunicatorOptions& options,
                          const Deadline& deadline) {
  Invitation invitation;
  Status listening;
  if (rank == 0) listening = listen(options, one_host, invitation);
  if (!listening.ok()) {
    invitation = {};
    invitation.refusal = listening.error().message;
  }
  PACELINE_TRY(spread(comm, invitation, deadline));
  if (!listening.ok()) return listening.error();
  if (!invitation.refusal.empty())
    return Error{ErrorCode::io, concat("rank 0 cannot listen: ", invitation.refusal), 0};
  return invitation;
}

/// All ranks can take part, and alike; known here and on every rank.
Result<Agreement> settle(MPI_Comm comm, const Result<bool>& carried_by_mpi, const Deadline& deadline) {
  Proposal proposal;
  proposal.host = hash_of_host();
  proposal.ready = carried_by_mpi.ok();
  proposal.transport = carried_by_mpi.ok() && carried_by_mpi.value() ? 1 : 0;
  PACELINE_ASSIGN(const Agreement agreement, agree(comm, proposal, deadline));
  if (!carried_by_mpi.ok()) return carried_by_mpi.error();
  if (!agreement.all_ready)
    return Error{ErrorCode::aborted, "another rank cannot take part: its own error says why"};
  if (!agreement.one_transport)
    return Error{ErrorCode::mismatch, concat("this rank would use ", carried_by_mpi.value() ? "mpi" : "tcp",
                                             " between nodes, and others not: set PACELINE_TRANSPORT alike")};
  return agreement;
}

}  // namespace
}  // namespace mpi

Result<Communicator> communicator_from_mpi(MPI_Comm mpi, CommunicatorOptions options, MpiTransport use) {
  PACELINE_TRY(mpi::check_mpi(mpi));
  const Deadline deadline(mpi::steady_clock, options.connect_timeout);
  int rank = 0;
  int size = 0;
  PACELINE_TRY(mpi::check(MPI_Comm_rank(mpi, &rank), "MPI_Comm_rank"));
  PACELINE_TRY(mpi::check(MPI_Comm_size(mpi, &size), "MPI_Comm_size"));
  PACELINE_ASSIGN(std::shared_ptr<mpi::Duplicate> duplicate, mpi::duplicate_of(mpi, deadline));
  // What one rank alone can see must not leave the others waiting.
  const Result<bool> carried_by_mpi = mpi::over_mpi(options, use);
  PACELINE_ASSIGN(const mpi::Agreement agreement, mpi::settle(duplicate->comm, carried_by_mpi, deadline));
  PACELINE_ASSIGN(const mpi::Invitation invitation,
                  mpi::invite(duplicate->comm, rank, agreement.one_host, options, deadline));
  options.secret = invitation.secret;
  options.connect_timeout = deadline.left();
  if (carried_by_mpi.value()) {
    // Messages of a communicator that failed may still be on their way: none has the tag of another.
    // Nor has that of a part of one.
    constexpr int least_tag_limit = 32767;
    constexpr int most_channels = 32;
    const int first_tag = duplicate->next_tag % (least_tag_limit / most_channels) * most_channels;
    ++duplicate->next_tag;
    // What a message costs is MPI's to know, and more than a round trip tells; see most_message_bytes.
    if (options.tuning.piece_bytes == 0 && !environment("PACELINE_PIECE_BYTES").has_value())
      options.tuning.piece_bytes = mpi::mpi_piece_bytes;
    options.transport = [duplicate,
                         first_tag](const TransportContext& context) -> Result<std::unique_ptr<Transport>> {
      if (context.channel >= most_channels)
        return Error{ErrorCode::unsupported, concat("over MPI a communicator can be split into ",
                                                    most_channels - 1, " parts at most")};
      return mpi::make_transport(duplicate, first_tag + context.channel, context);
    };
  }
  std::vector<Member> members(static_cast<std::size_t>(size));
  members[0].host = invitation.host;
  members[0].port = invitation.port;
  return Communicator::connect(rank, members, std::move(options));
}

}  // namespace paceline

int paceline_from_mpi(MPI_Comm mpi, const paceline_options* options, paceline_comm** out) {
  PACELINE_C_NOT_NULL(out);
  *out = nullptr;
  return paceline::c_api::guarded([&]() -> paceline::Status {
    PACELINE_ASSIGN(auto own, paceline::c_api::options_from(options));
    PACELINE_ASSIGN(auto communicator, paceline::communicator_from_mpi(mpi, std::move(own)));
    *out = new paceline_comm{std::move(communicator)};
    return {};
  });
}

#include "rendezvous.hpp"

#include <algorithm>

#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"
#include "tcp/introduction.hpp"
#include "tcp/socket.hpp"

namespace paceline {
namespace {

const SteadyClock steady_clock;
// A stranger must not hold up the meeting for longer than this.
constexpr Duration stranger_timeout = std::chrono::seconds(2);

/// Why `hello` may not take part; empty if it may.
std::string objection(const wire::Hello& hello, const wire::Hello& self,
                      const std::vector<wire::Hello>& roster) {
  if (hello.generation != self.generation)
    return concat("it belongs to generation ", hello.generation, ", this is ", self.generation);
  if (hello.size != self.size)
    return concat("it believes in ", hello.size, " ranks, rank 0 in ", self.size,
                  ": give all ranks the same member list");
  if (hello.encrypts != self.encrypts || hello.own_transport != self.own_transport)
    return "it encrypts or brings a transport of its own, and rank 0 does not, or the other way round";
  if (hello.rank <= 0 || hello.rank >= self.size) return concat("its rank ", hello.rank, " does not exist");
  if (roster[static_cast<std::size_t>(hello.rank)].size != 0)
    return concat("rank ", hello.rank, " has come already");
  return {};
}

Error missing_ranks(const std::vector<wire::Hello>& roster) {
  std::string missing;
  int first = -1;
  for (std::size_t rank = 1; rank < roster.size(); ++rank) {
    if (roster[rank].size != 0) continue;
    if (first < 0) first = static_cast<int>(rank);
    missing += concat(missing.empty() ? "" : ", ", rank);
  }
  return {ErrorCode::timeout,
          concat("rank(s) ", missing, " of ", roster.size(),
                 " did not come to rank 0 in time: look at their logs, and whether they can reach it"),
          first};
}

/// Admits the one behind `connection` into the meeting, or tells it why not.
void admit(UniqueFd connection, const wire::Hello& self, const std::string& secret, const AbortSignal& abort,
           Meeting& meeting) {
  const Deadline deadline(steady_clock, stranger_timeout);
  const tcp::Patience patience{deadline, abort};
  const auto refuse = [&](const std::string& reason) {
    log(LogLevel::warning, "refused a connection to rank 0: ", reason);
    [[maybe_unused]] const Status ignored =
        tcp::send_frame(connection.get(), wire::FrameType::reject, reason, patience);
  };
  const auto heard = tcp::hear_introduction(connection.get(), secret, patience);
  if (!heard.ok()) return refuse(heard.error().message);
  auto hello =
      heard.value().type == wire::FrameType::hello ? wire::decode_hello(heard.value().payload) : std::nullopt;
  if (!hello.has_value()) return refuse("it does not introduce itself as a rank does");
  const std::string reason = objection(*hello, self, meeting.roster);
  if (!reason.empty()) return refuse(reason);
  const auto rank = static_cast<std::size_t>(hello->rank);
  meeting.control[rank] = std::move(connection);
  meeting.roster[rank] = std::move(*hello);
}

Result<Meeting> host_meeting(wire::Hello self, const Member& place, CommunicatorOptions& options,
                             const tcp::Patience& patience) {
  Meeting meeting;
  meeting.roster.resize(static_cast<std::size_t>(self.size));
  meeting.control.resize(static_cast<std::size_t>(self.size));
  if (options.listener.valid()) {
    meeting.data_listener = std::move(options.listener);
    PACELINE_TRY(tcp::prepare(meeting.data_listener.get()));
  } else {
    PACELINE_ASSIGN(meeting.data_listener, tcp::listen_on(place.host, place.port));
  }
  self.host = place.host;
  PACELINE_ASSIGN(self.port, tcp::port_of(meeting.data_listener.get()));
  for (int come = 1; come < self.size;) {
    auto connection = tcp::accept_from(meeting.data_listener.get(), patience);
    if (!connection.ok()) {
      if (connection.error().code != ErrorCode::timeout) return std::move(connection).error();
      return missing_ranks(meeting.roster);
    }
    admit(std::move(*connection), self, options.secret, patience.abort, meeting);
    come = 1 + static_cast<int>(std::count_if(meeting.roster.begin(), meeting.roster.end(),
                                              [](const wire::Hello& hello) { return hello.size != 0; }));
  }
  meeting.roster[0] = std::move(self);
  const std::string roster = wire::encode(meeting.roster);
  for (std::size_t rank = 1; rank < meeting.control.size(); ++rank) {
    const Status sent =
        tcp::send_frame(meeting.control[rank].get(), wire::FrameType::roster, roster, patience);
    if (!sent.ok())
      return Error{ErrorCode::peer_lost, concat("rank ", rank, " left the meeting: ", sent.error().message),
                   static_cast<int>(rank)};
  }
  return meeting;
}

Result<Meeting> attend_meeting(wire::Hello self, const Member& place, const CommunicatorOptions& options,
                               const tcp::Patience& patience) {
  Meeting meeting;
  meeting.control.resize(1);
  const std::string where = concat("rank 0 at ", place.host, " port ", place.port);
  auto connection = tcp::connect_to(place.host, place.port, patience);
  if (!connection.ok()) return connection.error().with_context(where);
  meeting.control[0] = std::move(*connection);
  if (options.interface.empty()) {
    PACELINE_ASSIGN(self.host, tcp::local_address(meeting.control[0].get()));
  } else {
    PACELINE_ASSIGN(self.host, tcp::address_of_interface(options.interface));
  }
  PACELINE_ASSIGN(meeting.data_listener, tcp::listen_in(self.host, options.ports));
  PACELINE_ASSIGN(self.port, tcp::port_of(meeting.data_listener.get()));
  const auto introduced = tcp::introduce(meeting.control[0].get(), wire::FrameType::hello, wire::encode(self),
                                         options.secret, patience);
  if (!introduced.ok()) return introduced.error().with_context(where);
  auto frame = tcp::receive_frame(meeting.control[0].get(), wire::most_frame_bytes, patience);
  if (!frame.ok()) {
    Error error = frame.error().with_context(concat("waiting at ", where, " for the other ranks"));
    if (error.code == ErrorCode::peer_lost) error.rank = 0;
    return error;
  }
  if (frame->type == wire::FrameType::reject)
    return Error{ErrorCode::invalid_argument,
                 concat(where, " refused rank ", self.rank, ": ", frame->payload)};
  auto roster = frame->type == wire::FrameType::roster ? wire::decode_roster(frame->payload) : std::nullopt;
  if (!roster.has_value() || roster->size() != static_cast<std::size_t>(self.size))
    return Error{ErrorCode::corrupt, concat(where, " sent something that is not the list of ranks")};
  meeting.roster = std::move(*roster);
  return meeting;
}

}  // namespace

Result<Meeting> meet(wire::Hello self, std::span<const Member> members, CommunicatorOptions& options,
                     const Deadline& deadline, const AbortSignal& abort) {
  const tcp::Patience patience{deadline, abort};
  if (self.rank == 0) return host_meeting(std::move(self), members[0], options, patience);
  return attend_meeting(std::move(self), members[0], options, patience);
}

}  // namespace paceline

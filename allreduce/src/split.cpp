#include <algorithm>
#include <array>
#include <cstring>

#include "impl.hpp"
#include "paceline/base/text.hpp"
#include "tcp/socket.hpp"

namespace paceline {

Result<CommunicatorOptions> Communicator::Impl::options_of_part(std::vector<int> outer_ranks,
                                                                int channel) const {
  if (is_part_)
    return Error{ErrorCode::unsupported,
                 "this communicator is part of one that brings a transport, which can be split only once"};
  CommunicatorOptions part;
  part.generation = options_.generation;
  part.secret = options_.secret;
  part.connect_timeout = options_.connect_timeout;
  part.cancel = options_.cancel;
  part.operation_timeout = options_.operation_timeout;
  part.spin = options_.spin;
  part.encrypt = options_.encrypt;
  part.interface = options_.interface;
  part.ports = options_.ports;
  part.tuning = options_.tuning;
  if (!options_.transport) return part;
  part.transport = [make = options_.transport, ranks = std::move(outer_ranks),
                    channel](const TransportContext& context) {
    TransportContext own = context;
    own.channel = channel;
    own.outer_ranks = ranks;
    return make(own);
  };
  return part;
}

namespace {

/// Where a rank can be reached: a text in a form that an all_gather carries.
constexpr std::size_t most_address_bytes = 64;
using Address = std::array<char, most_address_bytes>;

Status check_groups(std::span<const std::vector<int>> groups, int size) {
  for (std::size_t index = 0; index < groups.size(); ++index) {
    const std::vector<int>& group = groups[index];
    const auto wrong = [&](const std::string& what) {
      return Error{ErrorCode::invalid_argument, concat("split: group ", index, " ", what)};
    };
    if (group.empty()) return wrong("is empty");
    std::vector<int> sorted = group;
    std::sort(sorted.begin(), sorted.end());
    if (sorted.front() < 0 || sorted.back() >= size)
      return wrong(concat("names a rank that does not exist: there are ", size));
    if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) return wrong("names a rank twice");
  }
  return {};
}

/// Where each group meets: its first rank listens there.
struct MeetingPlaces {
  std::vector<Address> address_of_rank;
  std::vector<std::int32_t> ports;  ///< by group
  std::vector<UniqueFd> listeners;  ///< by group; of those that this rank is first in
};

/// A rank that cannot listen says 0, so that all learn of it and none waits.
MeetingPlaces listen(std::span<const std::vector<int>> groups, int rank, const std::string& address,
                     const std::string& ports, Status& failure) {
  MeetingPlaces places;
  places.ports.resize(groups.size());
  places.listeners.resize(groups.size());
  for (std::size_t index = 0; index < groups.size(); ++index) {
    if (groups[index].front() != rank || groups[index].size() == 1) continue;
    auto listener = tcp::listen_in(address, ports);
    if (!listener.ok()) {
      failure = listener.error();
      return places;
    }
    const auto port = tcp::port_of(listener->get());
    if (!port.ok()) {
      failure = port.error();
      return places;
    }
    places.ports[index] = *port;
    places.listeners[index] = std::move(*listener);
  }
  return places;
}

std::vector<Member> members_of(const std::vector<int>& group, const MeetingPlaces& places, std::size_t index,
                               int own_place, const std::string& node_by_hand) {
  std::vector<Member> members(group.size());
  members[0].host = places.address_of_rank[static_cast<std::size_t>(group.front())].data();
  members[0].port = static_cast<std::uint16_t>(places.ports[index]);
  members[static_cast<std::size_t>(own_place)].node = node_by_hand;
  return members;
}

}  // namespace

Result<std::vector<Communicator>> Communicator::split(std::span<const std::vector<int>> groups,
                                                      std::optional<Duration> operation_timeout) {
  PACELINE_TRY(check_groups(groups, size()));
  Status failure;
  MeetingPlaces places = listen(groups, rank(), impl_->address(), impl_->options().ports, failure);
  places.address_of_rank.resize(static_cast<std::size_t>(size()));
  Address& own = places.address_of_rank[static_cast<std::size_t>(rank())];
  std::strncpy(own.data(), impl_->address().c_str(), own.size() - 1);
  PACELINE_TRY(all_gather(places.address_of_rank.data(), most_address_bytes, DataType::u8));
  PACELINE_TRY(all_reduce(places.ports.data(), places.ports.size(), DataType::i32, ReduceOp::max));
  if (!failure.ok()) return failure.error().with_context("split");
  const int first_channel = impl_->take_channels(static_cast<int>(groups.size()));
  std::vector<Communicator> parts;
  // All take the groups in one order, so the first that is not complete can always be completed.
  for (std::size_t index = 0; index < groups.size(); ++index) {
    const std::vector<int>& group = groups[index];
    if (group.size() > 1 && places.ports[index] == 0)
      return Error{ErrorCode::io,
                   concat("split: rank ", group.front(), " cannot listen: its own error says why"),
                   group.front()};
    const auto place = std::find(group.begin(), group.end(), rank());
    if (place == group.end()) continue;
    const int own_place = static_cast<int>(place - group.begin());
    PACELINE_ASSIGN(CommunicatorOptions options,
                    impl_->options_of_part(group, first_channel + static_cast<int>(index)));
    options.operation_timeout = operation_timeout.value_or(options.operation_timeout);
    options.listener = std::move(places.listeners[index]);
    const std::vector<Member> members = members_of(group, places, index, own_place, impl_->node_by_hand());
    auto part = connect(own_place, members, std::move(options));
    if (!part.ok()) return part.error().with_context(concat("split: group ", index));
    if (impl_->options().transport) part->impl_->be_part();
    parts.push_back(std::move(*part));
  }
  return parts;
}

}  // namespace paceline

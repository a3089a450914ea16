#include "measure.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "operation.hpp"
#include "paceline/base/text.hpp"
#include "waiting.hpp"

namespace paceline {
namespace {

const SteadyClock steady_clock;
constexpr int round_trips = 15;
constexpr int bulk_runs = 2;
constexpr std::size_t bulk_bytes = std::size_t{1} << 20;
constexpr std::size_t short_bytes = 64;
constexpr double worth_more_streams = 1.1;

/// One of the two ends.
class Prober {
 public:
  Prober(Transport& transport, std::uint64_t generation, int peer, const AbortSignal& abort,
         const Deadline& deadline)
      : transport_(transport), peer_(peer), abort_(abort), deadline_(deadline), memory_(bulk_bytes) {
    Descriptor descriptor;
    descriptor.kind = CollectiveKind::probe;
    header_.generation = generation;
    std::memcpy(header_.descriptor, &descriptor, sizeof descriptor);
  }

  Status send(std::size_t bytes, int blocks = 1) { return move(true, bytes, blocks); }
  Status receive(std::size_t bytes, int blocks = 1) { return move(false, bytes, blocks); }

 private:
  /// `bytes` in equal blocks, which go over as many connections.
  Status move(bool sending, std::size_t bytes, int blocks) {
    std::vector<Transfer> transfers(static_cast<std::size_t>(blocks));
    const std::size_t each = bytes / transfers.size();
    for (Transfer& transfer : transfers) {
      transfer.peer = peer_;
      transfer.bytes = memory_.data() + each * static_cast<std::size_t>(&transfer - transfers.data());
      transfer.header = header_;
      transfer.header.part = sending ? sent_++ : received_++;
      transfer.header.bytes = each;
      if (sending)
        transport_.send(transfer);
      else
        transport_.receive(transfer);
    }
    while (!std::ranges::all_of(transfers, [](const Transfer& t) { return t.complete; })) {
      PACELINE_TRY(abort_.status());
      if (deadline_.passed())
        return Error{ErrorCode::timeout,
                     concat("rank ", peer_, " did not answer while the network was measured"), peer_};
      PACELINE_TRY(transport_.progress(std::min(longest_nap, deadline_.left())));
    }
    return {};
  }

  Transport& transport_;
  int peer_;
  const AbortSignal& abort_;
  const Deadline& deadline_;
  std::vector<std::byte> memory_;
  BlockHeader header_;
  std::uint32_t sent_ = 0;
  std::uint32_t received_ = 0;
};

Result<double> time_round_trip(Prober& prober) {
  const Instant begin = steady_clock.now();
  PACELINE_TRY(prober.send(short_bytes));
  PACELINE_TRY(prober.receive(short_bytes));
  return to_seconds(steady_clock.now() - begin);
}

Result<double> time_bulk(Prober& prober, int blocks, double latency_s) {
  double best = 1e9;
  for (int run = 0; run < bulk_runs; ++run) {
    const Instant begin = steady_clock.now();
    PACELINE_TRY(prober.send(bulk_bytes, blocks));
    PACELINE_TRY(prober.receive(short_bytes));
    best = std::min(best, to_seconds(steady_clock.now() - begin));
  }
  return static_cast<double>(bulk_bytes) / std::max(best - 2 * latency_s, best / 10);
}

Status answer(Prober& prober, Transport& transport) {
  for (int i = 0; i < round_trips; ++i) {
    PACELINE_TRY(prober.receive(short_bytes));
    PACELINE_TRY(prober.send(short_bytes));
  }
  for (const int blocks : {1, transport.streams()}) {
    for (int run = 0; run < bulk_runs; ++run) {
      PACELINE_TRY(prober.receive(bulk_bytes, blocks));
      PACELINE_TRY(prober.send(short_bytes));
    }
    if (transport.streams() == 1) break;
  }
  return {};
}

}  // namespace

Result<Wire> measure_wire(Transport& transport, const Layout& layout, std::uint64_t generation,
                          const Tuning& tuning, const AbortSignal& abort, const Deadline& deadline) {
  Wire wire;
  wire.algorithm = static_cast<std::int32_t>(tuning.algorithm);
  wire.piece_bytes = static_cast<std::int64_t>(tuning.piece_bytes);
  wire.streams = transport.streams();
  const int asks = layout.ranks_of(0).front();
  const int answers = layout.ranks_of(1).front();
  if (layout.rank() == answers) {
    Prober prober(transport, generation, asks, abort, deadline);
    PACELINE_TRY(answer(prober, transport));
  }
  if (layout.rank() != asks) return wire;
  Prober prober(transport, generation, answers, abort, deadline);
  std::vector<double> trips;
  for (int i = 0; i < round_trips; ++i) {
    PACELINE_ASSIGN(const double trip, time_round_trip(prober));
    trips.push_back(trip);
  }
  std::ranges::nth_element(trips, trips.begin() + round_trips / 2);
  wire.latency_s = trips[round_trips / 2] / 2;
  PACELINE_ASSIGN(wire.bytes_per_s, time_bulk(prober, 1, wire.latency_s));
  wire.bytes_per_s_single = wire.bytes_per_s;
  if (transport.streams() == 1) return wire;
  PACELINE_ASSIGN(const double with_all, time_bulk(prober, transport.streams(), wire.latency_s));
  const bool more = tuning.streams > 0 || with_all > worth_more_streams * wire.bytes_per_s;
  wire.streams = more ? transport.streams() : 1;
  if (more) wire.bytes_per_s = with_all;
  return wire;
}

}  // namespace paceline

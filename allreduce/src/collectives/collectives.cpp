#include "collectives.hpp"

#include <algorithm>
#include <cstring>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

const SteadyClock steady_clock;
// On one node rounds are short, so that what goes through staging stays in the caches.
constexpr std::size_t local_round_bytes = 128U << 10;
constexpr std::size_t local_slots = 4;
// Between nodes so many rounds are on their way at a time.
constexpr int wire_rounds_ahead = 4;
constexpr std::size_t wire_slots = 5;
// A copy of so many bytes is over before anybody could wait for it in vain.
constexpr std::size_t pulled_at_once = 16U << 20;

}  // namespace

std::size_t staging_bytes(int nodes) {
  // A slot holds a round's contributions and its results.
  return nodes == 1 ? local_slots * 2 * local_round_bytes : wire_slots * 2 * most_round_bytes;
}

Status Collectives::run(const Request& request, std::uint64_t& submitted, const shm::Patience& patience) {
  const Arithmetic arithmetic(request.descriptor);
  if (is_small(request))
    PACELINE_TRY(run_small(request, arithmetic, submitted, patience));
  else
    PACELINE_TRY(run_in_rounds(request, arithmetic, submitted, patience));
  return transport_ == nullptr ? Status() : transport_->end_collective();
}

double Collectives::divisor_of(const Request& request) const {
  return request.descriptor.op == ReduceOp::average
             ? static_cast<double>(layout_.topology().node_of_rank.size())
             : 1.0;
}

/// By local index; empty if all are 1.
std::vector<double> Collectives::offered_weights() const {
  std::vector<double> weights;
  for (int peer = 0; peer < group_.size(); ++peer) {
    const double weight = group_.offered_weight(peer);
    if (weight == 1.0 && weights.empty()) continue;
    weights.resize(static_cast<std::size_t>(group_.size()), 1.0);
    weights[static_cast<std::size_t>(peer)] = weight;
  }
  return weights;
}

BlockHeader Collectives::header_of(const Request& request, std::uint64_t submitted) const {
  BlockHeader header;
  header.generation = generation_;
  header.submitted = submitted;
  std::memcpy(header.descriptor, &request.descriptor, sizeof header.descriptor);
  return header;
}

Status Collectives::run_in_rounds(const Request& request, const Arithmetic& arithmetic,
                                  std::uint64_t& submitted, const shm::Patience& given) {
  const Descriptor& d = request.descriptor;
  shm::Patience patience = given;
  Course course{request, layout_, group_, transport_, arithmetic, scratch_, patience, abort_};
  const std::size_t bytes = course.bytes_of(1);
  shm::Offer offer{d, request.weight, submitted};
  offer.input = group_.locate(request.input, course.input_bytes());
  offer.output = group_.locate(request.output, course.output_bytes());
  offer.input_address = reinterpret_cast<std::uintptr_t>(request.input);
  offer.output_address = reinterpret_cast<std::uintptr_t>(request.output);
  offer.way = static_cast<std::uint32_t>(d.kind == CollectiveKind::broadcast ? ways_.choose_for_copy()
                                                                             : ways_.choose(bytes));
  group_.offer(offer, {});
  PACELINE_TRY(group_.await_offers(patience));
  for (int peer = 0; peer < group_.size(); ++peer)
    submitted = std::min(submitted, group_.offered_submitted(peer));
  course.weights = offered_weights();
  course.divisor = divisor_of(request);
  course.header = header_of(request, submitted);
  PACELINE_TRY(map_memory(course));
  if (course.way == Way::pulled && d.kind == CollectiveKind::broadcast) return pull_from_root(course);
  PACELINE_TRY(cut(course));
  std::unique_ptr<Kind> kind = d.kind == CollectiveKind::all_reduce       ? make_all_reduce(course)
                               : d.kind == CollectiveKind::reduce_scatter ? make_reduce_scatter(course)
                               : d.kind == CollectiveKind::all_gather     ? make_all_gather(course)
                                                                          : make_broadcast(course);
  const Instant begin = steady_clock.now();
  patience.began = begin;
  PACELINE_TRY(run_rounds(course, *kind, submitted));
  // Between nodes only sums hear from all.
  if (transport_ != nullptr && d.kind != CollectiveKind::all_reduce) submitted = 0;
  if (course.way != Way::direct) {
    staged_rounds_ += course.rounds;
    if (d.kind == CollectiveKind::all_reduce) ways_.learn(bytes, course.way, steady_clock.now() - begin);
  }
  if (course.way == Way::staged) return {};
  group_.finish();
  return group_.await_finished_by_all(patience);
}

/// Finds the node's memory, if all of it is shared; otherwise its first rank has said how it is to go.
Status Collectives::map_memory(Course& course) const {
  const Descriptor& d = course.request.descriptor;
  if (group_.size() == 1) return {};
  for (int peer = 0; peer < group_.size(); ++peer)
    if (group_.offered_input(peer).shared == 0 || group_.offered_output(peer).shared == 0)
      course.way = Way::staged;
  if (course.way != Way::direct) {
    const bool can_be = d.kind == CollectiveKind::all_reduce ||
                        (d.kind == CollectiveKind::broadcast && transport_ == nullptr);
    const bool pulled =
        can_be && group_.can_pull() && group_.offered_way(0) == static_cast<std::uint32_t>(Way::pulled);
    if (pulled) course.way = Way::pulled;
    return {};
  }
  for (int peer = 0; peer < group_.size(); ++peer) {
    const std::byte* input = group_.at(peer, group_.offered_input(peer), course.input_bytes());
    std::byte* output = group_.at(peer, group_.offered_output(peer), course.output_bytes());
    if (input == nullptr || output == nullptr) {
      const int rank = layout_.topology().local_ranks[static_cast<std::size_t>(peer)];
      return Error{ErrorCode::mismatch,
                   concat("rank ", rank,
                          " offers shared memory that this rank does not have: allocate() and "
                          "free in the same order on all ranks of a node"),
                   rank};
    }
    course.inputs.push_back(input);
    course.outputs.push_back(output);
  }
  return {};
}

/// On one node: everyone who has not got it reads all of it where it is.
Status Collectives::pull_from_root(const Course& course) {
  const Request& request = course.request;
  const int root = request.descriptor.root;  // local indices are ranks
  const std::size_t bytes = course.bytes_of(1);
  const bool reads = root != group_.index() && !request.has_it;
  for (std::size_t at = 0; reads && at < bytes; at += pulled_at_once) {
    PACELINE_TRY(abort_.status());
    PACELINE_TRY(group_.pull(root, group_.offered_input_address(root) + at, request.output + at,
                             std::min(pulled_at_once, bytes - at)));
  }
  group_.finish();
  return group_.await_finished_by_all(course.patience);
}

/// Decides how long rounds are. All nodes come to the same length if there are several: it must not depend on
/// the kind of memory.
Status Collectives::cut(Course& course) {
  const Descriptor& d = course.request.descriptor;
  const StagingNeeds needs = staging_needs(d.kind, course.blocks());
  const std::size_t widest = std::max(needs.contributed, needs.results);
  std::size_t round_bytes = std::max<std::size_t>(d.count, 1) * course.unit();
  if (transport_ != nullptr) {
    const Plan::Choice choice = plan_.choose(course.arithmetic.wire_bytes(d.count));
    const std::size_t wanted = choice.piece_bytes * static_cast<std::size_t>(layout_.fragments());
    course.algorithm = choice.algorithm;
    course.crossings_ahead = wire_rounds_ahead;
    course.slots = wire_slots;
    round_bytes = std::min(wanted, most_round_bytes) / widest;
  } else if (course.way != Way::direct) {
    course.slots = local_slots;
    round_bytes = local_round_bytes / widest;
  }
  course.per_round = std::max<std::size_t>(round_bytes / course.unit(), 1);
  course.rounds = (d.count + course.per_round - 1) / course.per_round;
  course.slot_bytes = (needs.contributed + needs.results) * course.per_round * course.unit();
  course.first_round = staged_rounds_;
  const std::size_t used = std::min<std::size_t>(course.slots, course.rounds) * course.slot_bytes;
  if (course.way != Way::staged || used <= staging_present_) return {};
  PACELINE_TRY(group_.make_staging_present(used));
  staging_present_ = used;
  return {};
}

}  // namespace paceline

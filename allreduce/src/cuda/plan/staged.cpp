#include "staged.hpp"

#include <algorithm>

#include "paceline/base/text.hpp"
#include "pipeline.hpp"

namespace paceline::cuda {
namespace {

/// A collective of the staged way while it runs: fragments, and what each step does with one.
class Staged {
 public:
  Staged(const Request& request, const std::vector<Piece>& pieces, const std::vector<StagedLane>& lanes,
         const CopyOperations& copies, const StagedTuning& tuning)
      : request_(request),
        lanes_(lanes),
        copies_(copies),
        tuning_(tuning),
        unit_(element_bytes(request.descriptor.type)),
        fragments_(cut(pieces)),
        pipeline_(static_cast<int>(fragments_.size()), tuning.slots),
        works_(static_cast<std::size_t>(tuning.slots)) {}

  Status run() {
    for (;;) {
      const Pipeline::Action action = pipeline_.next();
      if (action.step == Pipeline::Step::finished) return {};
      const Status status = perform(action);
      if (!status.ok()) return give_up(status.error(), action);
      pipeline_.performed(action);
    }
  }

 private:
  [[nodiscard]] CollectiveKind kind() const { return request_.descriptor.kind; }
  [[nodiscard]] const StagedLane& lane_of(const Fragment& fragment) const {
    return lanes_[static_cast<std::size_t>(fragment.lane)];
  }
  [[nodiscard]] std::size_t ranks_of(const Fragment& fragment) const {
    return lane_of(fragment).ranks.size();
  }
  [[nodiscard]] bool is_root(const Fragment& fragment) const {
    return lane_of(fragment).communicator->rank() == request_.descriptor.root;
  }

  /// Blocks that a fragment has in its slot.
  [[nodiscard]] std::size_t blocks(std::size_t ranks) const {
    return kind() == CollectiveKind::reduce_scatter || kind() == CollectiveKind::all_gather ? ranks : 1;
  }

  [[nodiscard]] std::vector<Fragment> cut(const std::vector<Piece>& pieces) const {
    std::size_t mine = 0;
    std::vector<Piece> own;
    std::size_t ranks = 1;
    for (const Piece& piece : pieces) {
      const StagedLane& lane = lanes_[static_cast<std::size_t>(piece.lane)];
      if (lane.communicator == nullptr) continue;
      own.push_back(piece);
      mine += piece.range.size() * unit_;
      ranks = lane.ranks.size();
    }
    const std::size_t row_bytes = unit_ * blocks(ranks);
    // Every rank of a lane must cut alike, whatever other lanes it is in: by the lanes' common size.
    const std::size_t whole = request_.descriptor.count * row_bytes / std::max<std::size_t>(1, pieces.size());
    return fragments_of(own, fragment_bytes(whole, tuning_.slot_bytes) / row_bytes);
  }

  [[nodiscard]] std::byte* slot(const Pipeline::Action& action, const Fragment& fragment) const {
    return lane_of(fragment).memory.data() + static_cast<std::size_t>(action.slot) * 2 * tuning_.slot_bytes;
  }
  [[nodiscard]] std::byte* residual_slot(const Pipeline::Action& action, const Fragment& fragment) const {
    return slot(action, fragment) + tuning_.slot_bytes;
  }

  Status perform(const Pipeline::Action& action) {
    const Fragment& fragment = fragments_[static_cast<std::size_t>(action.fragment)];
    switch (action.step) {
      case Pipeline::Step::begin_copy_in: return copy_in(action, fragment);
      case Pipeline::Step::wait_copy_in: return copies_.wait_to_host(action.slot);
      case Pipeline::Step::begin_sum:
        works_[static_cast<std::size_t>(action.slot)] = begin_sum(action, fragment);
        return {};
      case Pipeline::Step::wait_sum: return wait_sum(action, fragment);
      case Pipeline::Step::begin_copy_out: return copy_out(action, fragment);
      case Pipeline::Step::wait_copy_out: return copies_.wait_to_device(action.slot);
      case Pipeline::Step::finished: break;
    }
    return {};
  }

  /// Between a slot and the caller's memory: `block` of the slot's blocks, or all of them.
  [[nodiscard]] Rows rows(const Pipeline::Action& action, const Fragment& fragment, std::byte* device,
                          bool all_blocks) const {
    Rows rows;
    rows.bytes = fragment.count * unit_;
    rows.host_pitch = rows.bytes;
    rows.device_pitch = request_.descriptor.count * unit_;
    rows.count = all_blocks ? blocks(ranks_of(fragment)) : 1;
    rows.host = slot(action, fragment);
    if (!all_blocks && blocks(ranks_of(fragment)) > 1)
      rows.host += static_cast<std::size_t>(lane_of(fragment).communicator->rank()) * rows.bytes;
    rows.device = device + fragment.first * unit_;
    return rows;
  }

  [[nodiscard]] Rows residual_rows(const Pipeline::Action& action, const Fragment& fragment) const {
    Rows rows;
    rows.bytes = fragment.count * sizeof(float);
    rows.count = 1;
    rows.host = residual_slot(action, fragment);
    rows.device = reinterpret_cast<std::byte*>(request_.residual + fragment.first);
    return rows;
  }

  Status copy_in(const Pipeline::Action& action, const Fragment& fragment) {
    if (fragment.count == 0 || (kind() == CollectiveKind::broadcast && !is_root(fragment))) return {};
    std::byte* from =
        const_cast<std::byte*>(request_.input);  // Rows are for both directions; this one reads it
    PACELINE_TRY(copies_.begin_to_host(
        action.slot, rows(action, fragment, from, kind() == CollectiveKind::reduce_scatter)));
    if (request_.residual == nullptr) return {};
    return copies_.begin_to_host(action.slot, residual_rows(action, fragment));
  }

  Status copy_out(const Pipeline::Action& action, const Fragment& fragment) {
    if (fragment.count == 0 || (kind() == CollectiveKind::broadcast && is_root(fragment))) return {};
    PACELINE_TRY(copies_.begin_to_device(
        action.slot, rows(action, fragment, request_.output, kind() == CollectiveKind::all_gather)));
    if (request_.residual == nullptr) return {};
    return copies_.begin_to_device(action.slot, residual_rows(action, fragment));
  }

  [[nodiscard]] Work begin_sum(const Pipeline::Action& action, const Fragment& fragment) {
    Communicator& communicator = *lane_of(fragment).communicator;
    const Descriptor& d = request_.descriptor;
    std::byte* data = slot(action, fragment);
    std::byte* own = data + static_cast<std::size_t>(communicator.rank()) * fragment.count * unit_;
    switch (kind()) {
      case CollectiveKind::all_reduce:
        return communicator.all_reduce_async(data, data, fragment.count, d.type,
                                             reduce_options(action, fragment));
      case CollectiveKind::reduce_scatter:
        return communicator.reduce_scatter_async(data, own, fragment.count, d.type,
                                                 reduce_options(action, fragment));
      case CollectiveKind::all_gather:
        return communicator.all_gather_async(own, data, fragment.count, d.type);
      case CollectiveKind::broadcast:
        return communicator.broadcast_async(data, fragment.count, d.type, d.root);
      case CollectiveKind::barrier:
      case CollectiveKind::probe: break;
    }
    return communicator.all_reduce_async(data, 0, DataType::u8);
  }

  [[nodiscard]] ReduceOptions reduce_options(const Pipeline::Action& action, const Fragment& fragment) const {
    ReduceOptions options;
    options.op = request_.descriptor.op;
    options.weight = request_.weight;
    options.codec = request_.descriptor.codec;
    options.fixed_point_exponent = request_.descriptor.exponent;
    if (request_.residual != nullptr)
      options.residual = reinterpret_cast<float*>(residual_slot(action, fragment));
    return options;
  }

  Status wait_sum(const Pipeline::Action& action, const Fragment& fragment) {
    const Status status = works_[static_cast<std::size_t>(action.slot)].wait();
    if (status.ok() || lanes_.size() == 1) return status;
    // A lane numbers its ranks by node.
    Error error = status.error();
    const std::vector<int>& ranks = lane_of(fragment).ranks;
    std::string numbers;
    for (const int rank : ranks) numbers += concat(numbers.empty() ? "" : ", ", rank);
    if (error.rank >= 0 && static_cast<std::size_t>(error.rank) < ranks.size())
      error.rank = ranks[static_cast<std::size_t>(error.rank)];
    return error.with_context(concat("between nodes, where ranks ", numbers, " count from 0"));
  }

  /// Nothing may touch slots or the caller's memory any more, and no rank may go on waiting for this one.
  Status give_up(const Error& error, const Pipeline::Action& failed) {
    for (const StagedLane& lane : lanes_)
      if (lane.communicator != nullptr) lane.communicator->abort(error.message);
    for (int i = pipeline_.sums().from; i < pipeline_.sums().to; ++i)
      [[maybe_unused]] const Status ignored = works_[static_cast<std::size_t>(pipeline_.slot_of(i))].wait();
    // Also the copies of the step that failed half-way.
    const bool in = failed.step == Pipeline::Step::begin_copy_in;
    const bool out = failed.step == Pipeline::Step::begin_copy_out;
    for (int i = pipeline_.copies_in().from; i < pipeline_.copies_in().to + (in ? 1 : 0); ++i)
      [[maybe_unused]] const Status ignored = copies_.wait_to_host(pipeline_.slot_of(i));
    for (int i = pipeline_.copies_out().from; i < pipeline_.copies_out().to + (out ? 1 : 0); ++i)
      [[maybe_unused]] const Status ignored = copies_.wait_to_device(pipeline_.slot_of(i));
    return error;
  }

  const Request& request_;
  const std::vector<StagedLane>& lanes_;
  const CopyOperations& copies_;
  const StagedTuning& tuning_;
  std::size_t unit_;
  std::vector<Fragment> fragments_;
  Pipeline pipeline_;
  std::vector<Work> works_;  // by slot
};

}  // namespace

Result<StagedLane> make_lane(std::shared_ptr<Communicator> communicator, std::vector<int> ranks,
                             const StagedTuning& tuning) {
  StagedLane lane;
  PACELINE_ASSIGN(lane.memory,
                  communicator->allocate(static_cast<std::size_t>(tuning.slots) * 2 * tuning.slot_bytes));
  lane.communicator = std::move(communicator);
  lane.ranks = std::move(ranks);
  return lane;
}

Status run_staged(const Request& request, const std::vector<Piece>& pieces,
                  const std::vector<StagedLane>& lanes, const CopyOperations& copies,
                  const StagedTuning& tuning) {
  return Staged(request, pieces, lanes, copies, tuning).run();
}

}  // namespace paceline::cuda

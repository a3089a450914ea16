// What each kind of collective does in a round; see rounds.hpp for the words.

#include <algorithm>
#include <cstring>

#include "rounds.hpp"

namespace paceline {
namespace {

void copy_bytes(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0 && to != from) std::memcpy(to, from, bytes);
}

class KindBase : public Kind {
 public:
  using Kind::Kind;

  void contribute(std::uint64_t round) override {
    for (std::size_t block = 0; block < contributed_blocks(); ++block)
      for (int fragment = 0; fragment < course_.layout.fragments(); ++fragment)
        if (!course_.owns(fragment)) contribute_part(round, block, course_.fragment(round, fragment));
  }

 protected:
  [[nodiscard]] virtual std::size_t contributed_blocks() const { return 1; }
  [[nodiscard]] bool alone() const { return course_.transport == nullptr; }
  [[nodiscard]] int own_index() const { return course_.group.index(); }
  [[nodiscard]] const std::vector<int>& local_ranks() const { return course_.layout.topology().local_ranks; }

  void contribute_part(std::uint64_t round, std::size_t block, ElementRange range) {
    const ElementRange whole = course_.round(round);
    const std::size_t unit = course_.unit();
    copy_bytes(
        course_.contribution(own_index(), round) + (block * whole.size() + range.begin - whole.begin) * unit,
        course_.request.input + (block * course_.request.descriptor.count + range.begin) * unit,
        range.size() * unit);
  }

  /// The local index of the owner of `fragment` on this node.
  [[nodiscard]] int local_owner(int fragment) const {
    const int owner = course_.layout.owner(course_.layout.node(), fragment);
    return static_cast<int>(std::ranges::find(local_ranks(), owner) - local_ranks().begin());
  }

  /// Copies `range` of `block` from where its fragment's owner has left it to `to`.
  void collect_part(std::uint64_t round, int fragment, std::size_t block, std::byte* to) {
    const ElementRange range = course_.fragment(round, fragment);
    const ElementRange whole = course_.round(round);
    copy_bytes(to,
               course_.result(local_owner(fragment), round) +
                   (block * whole.size() + range.begin - whole.begin) * course_.unit(),
               range.size() * course_.unit());
  }

  /// All local ranks' inputs, for a sum over the node.
  const void* const* sources(std::uint64_t round, std::size_t block, ElementRange range) {
    ins_.clear();
    for (int peer = 0; peer < course_.group.size(); ++peer)
      ins_.push_back(course_.source(peer, round, block, range));
    return ins_.data();
  }

  std::vector<const void*> ins_;
  std::vector<void*> outs_;
};

class AllReduce final : public KindBase {
 public:
  using KindBase::KindBase;

  Result<std::unique_ptr<Crossing>> begin(std::uint64_t round, int fragment,
                                          const CrossingContext* crossing) override {
    const ElementRange range = course_.fragment(round, fragment);
    const Arithmetic& arithmetic = course_.arithmetic;
    const int size = course_.group.size();
    PACELINE_ASSIGN(const void* const* addends, addends_of(round, range));
    if (alone()) {
      course_.destinations(round, 0, range, outs_);
      arithmetic.whole(outs_.data(), static_cast<int>(outs_.size()), addends, size, course_.weights_or_null(),
                       range.size(), course_.divisor);
      return std::unique_ptr<Crossing>();
    }
    Work& work = work_of(round, fragment);
    work.data = course_.destination(own_index(), round, 0, range);
    if (arithmetic.fixed_point()) {
      work.scratch = course_.scratch.take(range.size() * arithmetic.unit());
      work.data = work.scratch.data();
    }
    arithmetic.partial(work.data, addends, size, course_.weights_or_null(), range.size());
    float* residual = course_.request.residual;
    return make_sum(course_.algorithm, *crossing,
                    {work.data, range.size(), fragment, course_.first_part(round, fragment),
                     residual == nullptr ? nullptr : residual + range.begin});
  }

  void deliver(std::uint64_t round, int fragment) override {
    if (alone()) return;
    const ElementRange range = course_.fragment(round, fragment);
    Work& work = work_of(round, fragment);
    course_.destinations(round, 0, range, outs_);
    course_.arithmetic.finish(outs_.data(), static_cast<int>(outs_.size()), work.data, range.size(),
                              course_.divisor);
    work.scratch = {};
  }

  Status collect(std::uint64_t round) override {
    for (int fragment = 0; fragment < course_.layout.fragments(); ++fragment) {
      if (course_.owns(fragment)) continue;
      const ElementRange range = course_.fragment(round, fragment);
      std::byte* to = course_.request.output + range.begin * course_.unit();
      if (course_.way == Way::pulled)
        PACELINE_TRY(pull_result(fragment, range, to));
      else
        collect_part(round, fragment, 0, to);
    }
    return {};
  }

 private:
  /// What the node's ranks have for a fragment: where it is, or pulled into scratch memory.
  Result<const void* const*> addends_of(std::uint64_t round, ElementRange range) {
    if (course_.way != Way::pulled) return sources(round, 0, range);
    const std::size_t bytes = range.size() * course_.unit();
    const auto ranks = static_cast<std::size_t>(course_.group.size());
    if (pulled_.data() == nullptr) pulled_ = course_.scratch.take(ranks * course_.per_round * course_.unit());
    ins_.clear();
    for (int peer = 0; peer < course_.group.size(); ++peer) {
      std::byte* here = pulled_.data() + static_cast<std::size_t>(peer) * bytes;
      if (peer == own_index()) {
        ins_.push_back(course_.source(peer, round, 0, range));
        continue;
      }
      const std::uint64_t there = course_.group.offered_input_address(peer) + range.begin * course_.unit();
      PACELINE_TRY(course_.group.pull(peer, there, here, bytes));
      ins_.push_back(here);
    }
    return static_cast<const void* const*>(ins_.data());
  }

  Status pull_result(int fragment, ElementRange range, std::byte* to) {
    const int peer = local_owner(fragment);
    const std::uint64_t there = course_.group.offered_output_address(peer) + range.begin * course_.unit();
    return course_.group.pull(peer, there, to, range.size() * course_.unit());
  }

  /// Where the partial sums of a fragment are while they travel.
  struct Work {
    std::byte* data = nullptr;
    ScratchPool::Buffer scratch;
  };
  Work& work_of(std::uint64_t round, int fragment) {
    const auto ahead = static_cast<std::size_t>(course_.crossings_ahead);
    const auto fragments = static_cast<std::size_t>(course_.layout.fragments());
    if (works_.empty()) works_.resize(ahead * fragments);
    return works_[round % ahead * fragments + static_cast<std::size_t>(fragment)];
  }

  std::vector<Work> works_;
  ScratchPool::Buffer pulled_;
};

/// A sum or a copy of all ranks' blocks: between nodes they travel in scratch memory, ordered by node.
class OfBlocks : public KindBase {
 public:
  using KindBase::KindBase;

 protected:
  struct Packed {
    ScratchPool::Buffer memory;
    Chunks chunks;                      // by node
    std::vector<std::size_t> begin_of;  // by rank: its block's first element
  };

  Packed& packed_of(std::uint64_t round, int fragment) {
    const auto ahead = static_cast<std::size_t>(course_.crossings_ahead);
    const auto fragments = static_cast<std::size_t>(course_.layout.fragments());
    if (packed_.empty()) packed_.resize(ahead * fragments);
    return packed_[round % ahead * fragments + static_cast<std::size_t>(fragment)];
  }

  Packed& pack(std::uint64_t round, int fragment) {
    Packed& packed = packed_of(round, fragment);
    const std::size_t each = course_.fragment(round, fragment).size();
    packed.memory = course_.scratch.take(course_.blocks() * each * course_.unit());
    packed.chunks.clear();
    packed.begin_of.resize(course_.blocks());
    std::size_t at = 0;
    for (int node = 0; node < course_.layout.nodes(); ++node) {
      const std::size_t begin = at;
      for (const int rank : course_.layout.ranks_of(node)) {
        packed.begin_of[static_cast<std::size_t>(rank)] = at;
        at += each;
      }
      packed.chunks.push_back({begin, at});
    }
    return packed;
  }

  [[nodiscard]] std::byte* block_in(const Packed& packed, int rank) const {
    return packed.memory.data() + packed.begin_of[static_cast<std::size_t>(rank)] * course_.unit();
  }

  [[nodiscard]] CrossingPlace place_of(const Packed& packed, std::uint64_t round, int fragment) const {
    return {packed.memory.data(), packed.chunks.back().end, fragment, course_.first_part(round, fragment),
            nullptr};
  }

 private:
  std::vector<Packed> packed_;
};

class ReduceScatter final : public OfBlocks {
 public:
  using OfBlocks::OfBlocks;

  Result<std::unique_ptr<Crossing>> begin(std::uint64_t round, int fragment,
                                          const CrossingContext* crossing) override {
    const ElementRange range = course_.fragment(round, fragment);
    const int size = course_.group.size();
    if (alone()) {
      for (int peer = 0; peer < size; ++peer) {
        const auto block = static_cast<std::size_t>(local_ranks()[static_cast<std::size_t>(peer)]);
        void* out = course_.destination(peer, round, block, range);
        course_.arithmetic.whole(&out, 1, sources(round, block, range), size, course_.weights_or_null(),
                                 range.size(), course_.divisor);
      }
      return std::unique_ptr<Crossing>();
    }
    Packed& packed = pack(round, fragment);
    for (std::size_t block = 0; block < course_.blocks(); ++block)
      course_.arithmetic.partial(block_in(packed, static_cast<int>(block)), sources(round, block, range),
                                 size, course_.weights_or_null(), range.size());
    return make_scattered_sum(*crossing, place_of(packed, round, fragment), packed.chunks);
  }

  void deliver(std::uint64_t round, int fragment) override {
    if (alone()) return;
    const ElementRange range = course_.fragment(round, fragment);
    Packed& packed = packed_of(round, fragment);
    for (int peer = 0; peer < course_.group.size(); ++peer) {
      const int rank = local_ranks()[static_cast<std::size_t>(peer)];
      copy_bytes(course_.destination(peer, round, static_cast<std::size_t>(rank), range),
                 block_in(packed, rank), range.size() * course_.unit());
    }
    packed.memory = {};
  }

  Status collect(std::uint64_t round) override {
    for (int fragment = 0; fragment < course_.layout.fragments(); ++fragment) {
      if (course_.owns(fragment)) continue;
      const ElementRange range = course_.fragment(round, fragment);
      collect_part(round, fragment, static_cast<std::size_t>(course_.layout.rank()),
                   course_.request.output + range.begin * course_.unit());
    }
    return {};
  }

 protected:
  [[nodiscard]] std::size_t contributed_blocks() const override { return course_.blocks(); }
};

class AllGather final : public OfBlocks {
 public:
  using OfBlocks::OfBlocks;

  Result<std::unique_ptr<Crossing>> begin(std::uint64_t round, int fragment,
                                          const CrossingContext* crossing) override {
    const ElementRange range = course_.fragment(round, fragment);
    const std::size_t bytes = range.size() * course_.unit();
    if (alone()) {
      for (int peer = 0; peer < course_.group.size(); ++peer)
        spread(round, local_ranks()[static_cast<std::size_t>(peer)], range,
               course_.source(peer, round, 0, range));
      return std::unique_ptr<Crossing>();
    }
    Packed& packed = pack(round, fragment);
    for (int peer = 0; peer < course_.group.size(); ++peer)
      copy_bytes(block_in(packed, local_ranks()[static_cast<std::size_t>(peer)]),
                 course_.source(peer, round, 0, range), bytes);
    return make_gather(*crossing, place_of(packed, round, fragment), packed.chunks);
  }

  void deliver(std::uint64_t round, int fragment) override {
    if (alone()) return;
    const ElementRange range = course_.fragment(round, fragment);
    Packed& packed = packed_of(round, fragment);
    for (int rank = 0; rank < static_cast<int>(course_.blocks()); ++rank)
      spread(round, rank, range, block_in(packed, rank));
    packed.memory = {};
  }

  Status collect(std::uint64_t round) override {
    for (int fragment = 0; fragment < course_.layout.fragments(); ++fragment) {
      if (course_.owns(fragment)) continue;
      const ElementRange range = course_.fragment(round, fragment);
      for (std::size_t block = 0; block < course_.blocks(); ++block)
        collect_part(round, fragment, block,
                     course_.request.output +
                         (block * course_.request.descriptor.count + range.begin) * course_.unit());
    }
    return {};
  }

 private:
  void spread(std::uint64_t round, int rank, ElementRange range, const std::byte* from) {
    course_.destinations(round, static_cast<std::size_t>(rank), range, outs_);
    for (void* out : outs_) copy_bytes(out, from, range.size() * course_.unit());
  }
};

class Broadcast final : public KindBase {
 public:
  using KindBase::KindBase;

  void contribute(std::uint64_t round) override {
    if (is_root()) KindBase::contribute(round);
  }

  Result<std::unique_ptr<Crossing>> begin(std::uint64_t round, int fragment,
                                          const CrossingContext* crossing) override {
    const ElementRange range = course_.fragment(round, fragment);
    std::byte* own = course_.destination(own_index(), round, 0, range);
    if (on_root_node()) {
      copy_bytes(own, course_.source(root_index(), round, 0, range), range.size() * course_.unit());
      spread(round, range, own);
      if (alone()) return std::unique_ptr<Crossing>();
    }
    return make_chain(*crossing, {own, range.size(), fragment, course_.first_part(round, fragment), nullptr},
                      root_node());
  }

  void deliver(std::uint64_t round, int fragment) override {
    if (on_root_node()) return;
    const ElementRange range = course_.fragment(round, fragment);
    spread(round, range, course_.destination(own_index(), round, 0, range));
  }

  Status collect(std::uint64_t round) override {
    for (int fragment = 0; fragment < course_.layout.fragments(); ++fragment) {
      if (course_.owns(fragment) || is_root()) continue;
      const ElementRange range = course_.fragment(round, fragment);
      collect_part(round, fragment, 0, course_.request.output + range.begin * course_.unit());
    }
    return {};
  }

 private:
  [[nodiscard]] bool is_root() const { return course_.layout.rank() == course_.request.descriptor.root; }
  [[nodiscard]] int root_node() const {
    return course_.layout.topology().node_of_rank[static_cast<std::size_t>(course_.request.descriptor.root)];
  }
  [[nodiscard]] bool on_root_node() const { return course_.layout.node() == root_node(); }

  [[nodiscard]] int root_index() const {
    return static_cast<int>(std::ranges::find(local_ranks(), course_.request.descriptor.root) -
                            local_ranks().begin());
  }

  void spread(std::uint64_t round, ElementRange range, const std::byte* from) {
    course_.destinations(round, 0, range, outs_);
    // The root has it: nobody writes to its memory.
    const void* roots = course_.way == Way::direct && on_root_node()
                            ? course_.destination(root_index(), round, 0, range)
                            : nullptr;
    for (void* out : outs_)
      if (out != roots) copy_bytes(out, from, range.size() * course_.unit());
  }
};

}  // namespace

std::unique_ptr<Kind> make_all_reduce(const Course& course) {
  return std::make_unique<AllReduce>(course);
}
std::unique_ptr<Kind> make_reduce_scatter(const Course& course) {
  return std::make_unique<ReduceScatter>(course);
}
std::unique_ptr<Kind> make_all_gather(const Course& course) {
  return std::make_unique<AllGather>(course);
}
std::unique_ptr<Kind> make_broadcast(const Course& course) {
  return std::make_unique<Broadcast>(course);
}

}  // namespace paceline

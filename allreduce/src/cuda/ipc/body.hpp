#pragma once

#include <cstddef>

#include "arithmetic.hpp"
#include "protocol.hpp"

// What one block of the kernels does, for the GPU and for threads of the host. A `Block` says which one it is
// and how its threads meet:
//
//     int index() const, count() const      of the block, in its kernel
//     int thread() const, threads() const   of the thread, in its block
//     void meet() const                     all threads of the block; what they wrote before is seen after
//     bool all(bool) const                  the same, and whether all said true

namespace paceline::cuda::ipc {

/// At the beginning of a half of staging: what a block of one number tells the others of its rank.
struct alignas(16) BlockWord {
  double weight;
};
inline constexpr std::size_t header_bytes = most_blocks * sizeof(BlockWord);

/// A range of elements.
struct Range {
  std::size_t begin;
  std::size_t end;
};

/// Part `index` of `parts` of `count` elements; all parts begin at a multiple of 16 elements, so of 16 bytes.
PACELINE_HD Range slice_of(std::size_t count, int index, int parts) {
  constexpr std::size_t grid = 16;
  const std::size_t units = (count + grid - 1) / grid;
  const std::size_t begin = units * static_cast<std::size_t>(index) / static_cast<std::size_t>(parts) * grid;
  const std::size_t end =
      units * static_cast<std::size_t>(index + 1) / static_cast<std::size_t>(parts) * grid;
  return {begin < count ? begin : count, end < count ? end : count};
}

template <class Stored>
PACELINE_HD Stored* data_of(const Peers& peers, int rank) {
  return reinterpret_cast<Stored*>(peers.staging[rank] + header_bytes);
}

template <class Stored>
struct alignas(16) Pack {
  static constexpr std::size_t width = 16 / sizeof(Stored);
  Stored at[width];
};

PACELINE_HD bool on_16_bytes(const void* a, const void* b) {
  return ((reinterpret_cast<std::uintptr_t>(a) | reinterpret_cast<std::uintptr_t>(b)) & 15U) == 0;
}

/// By all threads of the block, 16 bytes at a time where both sides allow it.
template <class Block, class Stored>
PACELINE_HD void copy(const Block& block, Stored* to, const Stored* from, std::size_t count) {
  constexpr std::size_t width = Pack<Stored>::width;
  const auto thread = static_cast<std::size_t>(block.thread());
  const auto threads = static_cast<std::size_t>(block.threads());
  std::size_t done = 0;
  if (on_16_bytes(to, from)) {
    const std::size_t packs = count / width;
    for (std::size_t i = thread; i < packs; i += threads)
      reinterpret_cast<Pack<Stored>*>(to)[i] = reinterpret_cast<const Pack<Stored>*>(from)[i];
    done = packs * width;
  }
  for (std::size_t i = done + thread; i < count; i += threads) to[i] = from[i];
}

/// What this block's number of every rank has told.
struct Weights {
  double of[most_ranks];
};

PACELINE_HD Weights weights_of(const Peers& peers, int block) {
  Weights weights;
  for (int rank = 0; rank < peers.size; ++rank)
    weights.of[rank] = reinterpret_cast<const BlockWord*>(peers.staging[rank])[block].weight;
  return weights;
}

/// to[i] = sum over the ranks of their staging at place + i; into `copy_to` too, unless null.
template <class Adding, class Block, class Stored = typename Adding::Stored>
PACELINE_HD void add_up(const Block& block, const Peers& peers, Stored* to, Stored* copy_to,
                        std::size_t place, std::size_t count, const Weights& weights,
                        const Scaling& scaling) {
  constexpr std::size_t width = Pack<Stored>::width;
  const auto thread = static_cast<std::size_t>(block.thread());
  const auto threads = static_cast<std::size_t>(block.threads());
  std::size_t done = 0;
  // `place` and staging are on 16 bytes always.
  if (on_16_bytes(to, copy_to)) {
    const std::size_t packs = count / width;
    for (std::size_t i = thread; i < packs; i += threads) {
      typename Adding::Total total[width];
      Pack<Stored> pack = reinterpret_cast<const Pack<Stored>*>(data_of<Stored>(peers, 0) + place)[i];
      for (std::size_t k = 0; k < width; ++k) total[k] = Adding::first(pack.at[k], weights.of[0], scaling);
      for (int rank = 1; rank < peers.size; ++rank) {
        pack = reinterpret_cast<const Pack<Stored>*>(data_of<Stored>(peers, rank) + place)[i];
        for (std::size_t k = 0; k < width; ++k)
          total[k] = Adding::add(total[k], pack.at[k], weights.of[rank], scaling);
      }
      for (std::size_t k = 0; k < width; ++k) pack.at[k] = Adding::finish(total[k], scaling);
      reinterpret_cast<Pack<Stored>*>(to)[i] = pack;
      if (copy_to != nullptr) reinterpret_cast<Pack<Stored>*>(copy_to)[i] = pack;
    }
    done = packs * width;
  }
  for (std::size_t i = done + thread; i < count; i += threads) {
    auto total = Adding::first(data_of<Stored>(peers, 0)[place + i], weights.of[0], scaling);
    for (int rank = 1; rank < peers.size; ++rank)
      total = Adding::add(total, data_of<Stored>(peers, rank)[place + i], weights.of[rank], scaling);
    const Stored value = Adding::finish(total, scaling);
    to[i] = value;
    if (copy_to != nullptr) copy_to[i] = value;
  }
}

/// This block has put what belongs to `turn` into staging; goes on when all ranks' blocks of its number have.
/// False: the wait failed, the host knows, and the block must end.
template <class Block>
PACELINE_HD bool exchange(const Block& block, const Peers& peers, std::uint32_t turn) {
  block.meet();
  bool well = true;
  for (int peer = block.thread(); peer < peers.size; peer += block.threads())
    if (peer != peers.rank) publish(peers, peer, block.index(), turn);
  for (int peer = block.thread(); peer < peers.size; peer += block.threads()) {
    if (peer == peers.rank) continue;
    const Outcome outcome = await(peers, peer, block.index(), turn);
    if (outcome == Outcome::well) continue;
    report(peers, outcome, peer);
    well = false;
  }
  return block.all(well);
}

template <class Block>
PACELINE_HD void tell_weight(const Block& block, const Peers& peers, double weight) {
  if (block.thread() == 0)
    reinterpret_cast<BlockWord*>(peers.staging[peers.rank])[block.index()].weight = weight;
}

/// An all_reduce in one exchange: everyone works out everything. For what is short.
template <class Stored>
struct OneShot {
  const Stored* input = nullptr;
  Stored* output = nullptr;  ///< may be the input
  std::size_t count = 0;     ///< at most what a half holds
  double weight = 1.0;
  Scaling scaling;
  std::uint32_t turn = 0;
};

template <class Adding, class Block, class Stored = typename Adding::Stored>
PACELINE_HD void one_shot(const Block& block, const Peers& peers, const OneShot<Stored>& call) {
  const Range mine = slice_of(call.count, block.index(), block.count());
  const std::size_t count = mine.end - mine.begin;
  copy(block, data_of<Stored>(peers, peers.rank) + mine.begin, call.input + mine.begin, count);
  tell_weight(block, peers, call.weight);
  if (!exchange(block, peers, call.turn)) return;
  const Weights weights = weights_of(peers, block.index());
  add_up<Adding>(block, peers, call.output + mine.begin, static_cast<Stored*>(nullptr), mine.begin, count,
                 weights, call.scaling);
}

/// Everything else: rows of elements, one for each rank. Reducing, each rank adds up its own row of all
/// ranks' data; gathering, each gives its row to all. Both: an all_reduce in two exchanges, in which each
/// rank reads 2(n-1)/n of the data from its peers, whatever n is. A kernel takes the part [offset, offset +
/// step) of every row.
template <class Stored>
struct ByRows {
  const Stored* input = nullptr;  ///< reducing: all rows, as row_begin says; else this rank's own row
  Stored* output = nullptr;       ///< gathering: all rows, as row_begin says; else this rank's own row
  std::size_t row_begin[most_ranks] = {};
  std::size_t row_count[most_ranks] = {};
  std::size_t offset = 0;
  std::size_t step =
      0;  ///< a multiple of 16; a half holds size * step elements, or step where nothing is reduced
  bool reduces = false;
  bool gathers = false;
  double weight = 1.0;
  Scaling scaling;
  std::uint32_t turn = 0;  ///< and the next one, where it both reduces and gathers
};

/// What `block` has of row `row` in this kernel, from the beginning of the part [offset, offset + step).
template <class Stored>
PACELINE_HD Range part_of_row(const ByRows<Stored>& call, int row, int index, int count) {
  const std::size_t whole = call.row_count[row];
  const std::size_t left = call.offset < whole ? whole - call.offset : 0;
  const Range slice = slice_of(call.step, index, count);
  return {slice.begin < left ? slice.begin : left, slice.end < left ? slice.end : left};
}

template <class Stored>
PACELINE_HD std::size_t place_of_row(const ByRows<Stored>& call, int row) {
  return call.reduces ? static_cast<std::size_t>(row) * call.step : 0;
}

template <class Adding, class Block, class Stored = typename Adding::Stored>
PACELINE_HD bool reduce_rows(const Block& block, const Peers& peers, const ByRows<Stored>& call) {
  Stored* staging = data_of<Stored>(peers, peers.rank);
  for (int row = 0; row < peers.size; ++row) {
    const Range part = part_of_row(call, row, block.index(), block.count());
    copy(block, staging + place_of_row(call, row) + part.begin,
         call.input + call.row_begin[row] + call.offset + part.begin, part.end - part.begin);
  }
  tell_weight(block, peers, call.weight);
  if (!exchange(block, peers, call.turn)) return false;
  const Weights weights = weights_of(peers, block.index());
  const Range mine = part_of_row(call, peers.rank, block.index(), block.count());
  const std::size_t place = place_of_row(call, peers.rank) + mine.begin;
  Stored* output = call.output + (call.gathers ? call.row_begin[peers.rank] : 0) + call.offset + mine.begin;
  // Nobody else reads this rank's row of its own staging before the next exchange, so the sum takes its place
  // there.
  add_up<Adding>(block, peers, output, call.gathers ? staging + place : nullptr, place, mine.end - mine.begin,
                 weights, call.scaling);
  return true;
}

template <class Block, class Stored>
PACELINE_HD void gather_rows(const Block& block, const Peers& peers, const ByRows<Stored>& call) {
  const Range mine = part_of_row(call, peers.rank, block.index(), block.count());
  if (!call.reduces) {
    copy(block, data_of<Stored>(peers, peers.rank) + mine.begin, call.input + call.offset + mine.begin,
         mine.end - mine.begin);
  }
  if (!exchange(block, peers, call.turn + (call.reduces ? 1 : 0))) return;
  for (int row = 0; row < peers.size; ++row) {
    Stored* to = call.output + call.row_begin[row] + call.offset;
    const bool there = row == peers.rank && (call.reduces || to == call.input + call.offset);
    if (there) continue;
    const Range part = part_of_row(call, row, block.index(), block.count());
    copy(block, to + part.begin, data_of<Stored>(peers, row) + place_of_row(call, row) + part.begin,
         part.end - part.begin);
  }
}

template <class Adding, class Block, class Stored = typename Adding::Stored>
PACELINE_HD void by_rows(const Block& block, const Peers& peers, const ByRows<Stored>& call) {
  if (call.reduces && !reduce_rows<Adding>(block, peers, call)) return;
  if (call.gathers) gather_rows(block, peers, call);
}

}  // namespace paceline::cuda::ipc

#pragma once

#include <time.h>

#include "portable.hpp"

// How the kernels of a node's ranks wait for each other.
//
// Each rank has *staging* that its peers have mapped: two halves for data, and a page of flags that only its
// peers write and only it reads, so that a wait looks at memory nearby. All ranks count *turns* alike, since
// they call the same collectives. A block of a kernel that has put its part of turn t into its own staging
// *publishes* t: it writes t to its place on every peer's page. A block that needs the others' parts *awaits*
// t: until all places of its own page, for its number, hold t or more. Only blocks of one number wait for
// each other, so a kernel needs no barrier of all its blocks, and blocks may start in any order.
//
// Kernels use the halves by turns. A kernel that overwrites a half comes two kernels after the one that
// filled it, and in the kernel between the two every rank has awaited at least one publication of every
// other, which those made when they were through with the first kernel. So nothing is overwritten that a peer
// may still read.
//
// Turns are compared as the difference modulo 2^32, so they may wrap around.

namespace paceline::cuda::ipc {

inline constexpr int most_ranks = 16;  ///< of a node
inline constexpr int most_blocks = 64;

struct FlagPage {
  std::uint32_t reached[most_blocks][most_ranks];  ///< [block][writer]
};

/// Who has come so far that turn `turn` is published.
PACELINE_HD bool has_reached(std::uint32_t flag, std::uint32_t turn) {
  return static_cast<std::int32_t>(flag - turn) >= 0;
}

/// Why a wait ended.
enum class Outcome : std::uint32_t { well = 0, aborted = 1, late = 2 };

/// Between a rank's kernels and its own host: in host memory that the device has mapped.
struct HostWords {
  std::uint32_t abort = 0;    ///< written by the host: waits end
  std::uint32_t outcome = 0;  ///< written by kernels: an Outcome other than well stays
  std::uint32_t late = 0;     ///< local index of a rank that had not come; with Outcome::late
};

/// Nanoseconds on a clock of the device's, or of the host's. Only differences mean anything.
PACELINE_HD std::uint64_t clock_ns() {
#ifdef __CUDA_ARCH__
  std::uint64_t now = 0;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
#else
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
#endif
}

/// What a kernel knows of the ranks of its node.
struct Peers {
  int rank = 0;  ///< local index of this one
  int size = 0;
  std::uint32_t* pages[most_ranks] = {};  ///< by local index: FlagPage as words, as mapped here
  std::byte* staging[most_ranks] = {};    ///< the half of this kernel
  HostWords* words = nullptr;             ///< of this rank's host, as mapped here
  std::uint64_t timeout_ns = 0;           ///< of a wait
};

PACELINE_HD std::uint32_t* flag_of(const Peers& peers, int reader, int block, int writer) {
  return peers.pages[reader] + block * most_ranks + writer;
}

/// Tells `reader` that this rank's `block` has published `turn`.
PACELINE_HD void publish(const Peers& peers, int reader, int block, std::uint32_t turn) {
  store_release(flag_of(peers, reader, block, peers.rank), turn);
}

/// Until `writer`'s `block` has published `turn`. Ends with the abort of the host, or after timeout_ns.
PACELINE_HD Outcome await(const Peers& peers, int writer, int block, std::uint32_t turn) {
  // Looking at host memory or a clock costs as much as many looks at the flag.
  constexpr int looks_between = 64;
  const std::uint32_t* flag = flag_of(peers, peers.rank, block, writer);
  std::uint64_t begin = 0;
  for (;;) {
    for (int look = 0; look < looks_between; ++look)
      if (has_reached(load_acquire(flag), turn)) return Outcome::well;
    if (load_acquire(&peers.words->abort) != 0) return Outcome::aborted;
    const std::uint64_t now = clock_ns();
    if (begin == 0) begin = now;
    if (now - begin > peers.timeout_ns) return Outcome::late;
  }
}

/// Tells the host how a wait for `writer` ended. Written by any block that failed; which of several is not
/// told.
PACELINE_HD void report(const Peers& peers, Outcome outcome, int writer) {
  if (outcome == Outcome::late) store_release(&peers.words->late, static_cast<std::uint32_t>(writer));
  store_release(&peers.words->outcome, static_cast<std::uint32_t>(outcome));
}

}  // namespace paceline::cuda::ipc

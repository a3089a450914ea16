#pragma once

// The kernels within a node, run by threads of the host: ranks that share a node's memory, and what CUDA
// would give a kernel.

#include <atomic>
#include <barrier>
#include <memory>
#include <thread>
#include <vector>

#include "cuda/ipc/body.hpp"

namespace paceline::cuda::ipc {

/// The threads of a block, as a kernel has them.
struct Meeting {
  explicit Meeting(int threads) : barrier(threads) {}
  std::barrier<> barrier;
  std::atomic<bool> well = true;
};

class HostBlock {
 public:
  HostBlock(int index, int count, int thread, int threads, Meeting& meeting)
      : index_(index), count_(count), thread_(thread), threads_(threads), meeting_(meeting) {}
  [[nodiscard]] int index() const { return index_; }
  [[nodiscard]] int count() const { return count_; }
  [[nodiscard]] int thread() const { return thread_; }
  [[nodiscard]] int threads() const { return threads_; }
  void meet() const { meeting_.barrier.arrive_and_wait(); }
  [[nodiscard]] bool all(bool mine) const {
    if (!mine) meeting_.well = false;
    meet();
    return meeting_.well;
  }

 private:
  int index_;
  int count_;
  int thread_;
  int threads_;
  Meeting& meeting_;
};

inline constexpr std::size_t half_bytes = header_bytes + (std::size_t{64} << 10);

/// One rank's memory: flags, two halves of staging, and the words of its host.
struct RankMemory {
  alignas(16) FlagPage page{};
  std::vector<BlockWord> halves[2] = {std::vector<BlockWord>(half_bytes / sizeof(BlockWord)),
                                      std::vector<BlockWord>(half_bytes / sizeof(BlockWord))};
  HostWords words;
};

/// Ranks of a node as threads of this process.
struct Node {
  Node(int size_, std::uint32_t first_turn) : size(size_), first(first_turn) {
    for (int rank = 0; rank < size; ++rank) {
      memory.push_back(std::make_unique<RankMemory>());
      for (auto& block : memory.back()->page.reached)
        for (std::uint32_t& flag : block) flag = first_turn - 1;
    }
  }
  [[nodiscard]] Peers peers_of(int rank, int kernel) const {
    Peers peers;
    peers.rank = rank;
    peers.size = size;
    for (int peer = 0; peer < size; ++peer) {
      RankMemory& its = *memory[static_cast<std::size_t>(peer)];
      peers.pages[peer] = &its.page.reached[0][0];
      peers.staging[peer] = reinterpret_cast<std::byte*>(its.halves[kernel % 2].data());
    }
    peers.words = &memory[static_cast<std::size_t>(rank)]->words;
    peers.timeout_ns = timeout_ns;
    return peers;
  }

  int size;
  std::uint32_t first;
  std::uint64_t timeout_ns = 60'000'000'000;
  std::vector<std::unique_ptr<RankMemory>> memory;  // by local index
};

/// A kernel of one rank: `body` on every thread of every block, all at once.
template <class Body>
void launch(int blocks, int threads, const Body& body) {
  std::vector<std::unique_ptr<Meeting>> meetings;
  for (int block = 0; block < blocks; ++block) meetings.push_back(std::make_unique<Meeting>(threads));
  std::vector<std::thread> all;
  for (int block = 0; block < blocks; ++block)
    for (int thread = 0; thread < threads; ++thread)
      all.emplace_back([&, block, thread] {
        body(HostBlock(block, blocks, thread, threads, *meetings[static_cast<std::size_t>(block)]));
      });
  for (std::thread& thread : all) thread.join();
}

}  // namespace paceline::cuda::ipc

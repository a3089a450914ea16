// The floor: what a sum between ranks that share memory takes at least. All buffers are in one mapping; every
// rank has 1/n of the range and streams "read all, add, write all" over it, with one exchange of flags before
// and after. It chooses nothing, copies nothing and tells no errors.

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "allreduce/contenders.hpp"
#include "allreduce/probe_kernel.hpp"
#include "paceline/base/error.hpp"
#include "paceline/base/text.hpp"
#include "peers/contender.h"

namespace paceline::bench {
namespace {

constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;
constexpr int spins_before_yield = 200;

struct alignas(128) Flag {
  std::atomic<std::uint64_t> turn;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "flags are in memory that processes share");

struct Probe {
  int rank = 0;
  int ranks = 1;
  bool yields = false;  ///< where ranks have to share a core
  std::size_t element_bytes = 4;
  std::size_t flags_bytes = 0;
  std::size_t stride_bytes = 0;  ///< from one rank's buffer to the next
  std::byte* mapping = nullptr;
  std::uint64_t turn = 0;
  std::vector<float*> buffers;

  [[nodiscard]] Flag& flag(int of) const { return reinterpret_cast<Flag*>(mapping)[of]; }
};

Probe& probe_of(void* state) {
  return *static_cast<Probe*>(state);
}

std::size_t whole_pages(std::size_t bytes) {
  return (bytes + huge_page_bytes - 1) / huge_page_bytes * huge_page_bytes;
}

/// Rank 0 makes the memory; the others open it through rank 0's process. It has no name that could be left
/// behind.
int shared_memory(const contender_job& job, std::size_t bytes) {
  int memory = -1;
  std::string place;
  if (job.rank == 0) {
    memory = ::memfd_create("paceline-bench-probe", MFD_CLOEXEC);
    if (memory < 0 || ::ftruncate(memory, static_cast<off_t>(bytes)) != 0)
      contender_fail("%s", system_error(concat("no memory for ", bytes, " bytes")).message.c_str());
    place = concat("/proc/", ::getpid(), "/fd/", memory);
  }
  char word[64] = "";
  place.copy(word, sizeof word - 1);
  contender_share(&job, 0, word, sizeof word);
  if (job.rank != 0) memory = ::open(word, O_RDWR | O_CLOEXEC);
  if (memory < 0) contender_fail("%s", system_error(concat("cannot open ", word)).message.c_str());
  return memory;
}

void init(void* state, const contender_job* job) {
  Probe& probe = probe_of(state);
  probe.rank = job->rank;
  probe.ranks = job->ranks;
  probe.yields = job->ranks > static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  probe.element_bytes = contender_element_bytes(job->type);
  probe.flags_bytes = whole_pages(sizeof(Flag) * static_cast<std::size_t>(job->ranks));
  probe.stride_bytes = whole_pages(job->max_bytes);
  const std::size_t bytes = probe.flags_bytes + probe.stride_bytes * static_cast<std::size_t>(job->ranks);
  const int memory = shared_memory(*job, bytes);
  void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  if (mapped == MAP_FAILED)
    contender_fail("%s", system_error("cannot map the shared memory").message.c_str());
  ::madvise(mapped, bytes, MADV_HUGEPAGE);  // advice: it works without
  probe.mapping = static_cast<std::byte*>(mapped);
  for (int rank = 0; rank < job->ranks; ++rank)
    probe.buffers.push_back(reinterpret_cast<float*>(probe.mapping + probe.flags_bytes +
                                                     probe.stride_bytes * static_cast<std::size_t>(rank)));
}

/// All pages at once, as they then lie together in the machine's memory and need fewer translations.
void* allocate(void* state, std::size_t bytes) {
  const Probe& probe = probe_of(state);
  float* own = probe.buffers[static_cast<std::size_t>(probe.rank)];
  ::madvise(own, bytes, MADV_POPULATE_WRITE);  // advice: without, pages come with the first values
  return own;
}

/// Ends with the process where a rank is lost: contender.c watches.
void exchange(void* state) {
  Probe& probe = probe_of(state);
  const std::uint64_t turn = ++probe.turn;
  probe.flag(probe.rank).turn.store(turn, std::memory_order_release);
  for (int rank = 0; rank < probe.ranks; ++rank)
    for (int spins = 0; probe.flag(rank).turn.load(std::memory_order_acquire) < turn; ++spins)
      if (probe.yields && spins >= spins_before_yield) ::sched_yield();
}

void sum(void* state, void*, std::size_t count) {
  Probe& probe = probe_of(state);
  const std::size_t floats = std::max<std::size_t>(1, count * probe.element_bytes / sizeof(float));
  const auto rank = static_cast<std::size_t>(probe.rank);
  const auto ranks = static_cast<std::size_t>(probe.ranks);
  // Whole vectors for everyone; the last rank has what is left over.
  const std::size_t share = floats / ranks / probe_lanes * probe_lanes;
  const std::size_t end = rank + 1 == ranks ? floats : share * (rank + 1);
  exchange(state);
  probe_add_up(probe.buffers.data(), probe.ranks, share * rank, end);
  exchange(state);
}

void fini(void*) {
}

}  // namespace

int run_probe_rank(int argc, char** argv) {
  Probe probe;
  const contender self = {&probe, init, allocate, exchange, sum, fini};
  return contender_main(argc, argv, &self);
}

}  // namespace paceline::bench

#include "node_group.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <thread>

#include "paceline/base/assert.hpp"
#include "paceline/base/text.hpp"

namespace paceline::shm {
namespace {

const SteadyClock steady_clock;
// A sleeper looks around this often even if nobody wakes it: the last defence, not the way it works.
constexpr Duration longest_nap = std::chrono::milliseconds(100);

void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t seen, Duration at_most) {
  const auto ns = at_most.count();
  const timespec timeout{ns / 1'000'000'000, ns % 1'000'000'000};
  ::syscall(SYS_futex, &word, FUTEX_WAIT, seen, &timeout, nullptr, 0);
}

void futex_wake(std::atomic<std::uint32_t>& word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
}

void pause_cpu() {
#ifdef __x86_64__
  __builtin_ia32_pause();
#endif
}

}  // namespace

/// What a rank offers in one turn, and the outcome if it is the one who computes it.
struct NodeGroup::Slot {
  Descriptor descriptor;
  Location location;
  alignas(64) std::byte payload[inline_bytes];
  alignas(64) std::byte outcome[inline_bytes];
};

/// One rank's part of the control block: written by that rank alone, but for the doorbell.
struct alignas(128) NodeGroup::RankBlock {
  std::atomic<std::uint32_t> doorbell;  // futex: peers count it up after a change, if its owner sleeps
  std::atomic<std::uint32_t> sleeping;
  alignas(64) std::atomic<std::uint64_t> offered;   // the last turn offered
  alignas(64) std::atomic<std::uint64_t> finished;  // the last turn finished
  Slot slots[2];                                    // of even and odd turns
};

NodeGroup::NodeGroup(const Layout& layout, Handshake handshake, Duration spin, AbortSignal& abort)
    : layout_(layout), handshake_(std::move(handshake)), spin_(spin), abort_(abort) {
  // Spinning where others need the core to make progress only delays them.
  if (static_cast<unsigned>(layout.local_size()) > std::thread::hardware_concurrency())
    spin_ = Duration::zero();
}

NodeGroup::~NodeGroup() = default;

Result<std::shared_ptr<NodeGroup>> NodeGroup::make(const Layout& layout, Handshake handshake, Duration spin,
                                                   AbortSignal& abort, const Deadline& deadline) {
  std::shared_ptr<NodeGroup> group(new NodeGroup(layout, std::move(handshake), spin, abort));
  const std::size_t bytes = sizeof(RankBlock);
  UniqueFd descriptor;
  PACELINE_ASSIGN(Memory own, Memory::create(bytes, descriptor));
  new (own.data()) RankBlock{};
  PACELINE_ASSIGN(group->control_.memory, group->handshake_.exchange(descriptor, bytes, {deadline, abort}));
  group->control_.memory[static_cast<std::size_t>(group->index())] = std::move(own);
  if (group->size() > 1) {
    PACELINE_ASSIGN(const std::uint32_t staging, group->allocate(staging_bytes, deadline));
    PACELINE_ASSERT(staging == group->staging().allocation, "staging is the first allocation");
  } else {
    group->next_allocation_ = 1;
  }
  NodeGroup* raw = group.get();  // does not own; the signal dies with the communicator, as the group does
  abort.on_raise([raw] {
    raw->block(raw->index()).doorbell.fetch_add(1);
    futex_wake(raw->block(raw->index()).doorbell);
  });
  return group;
}

NodeGroup::RankBlock& NodeGroup::block(int peer) const {
  return *std::launder(reinterpret_cast<RankBlock*>(control_.memory[static_cast<std::size_t>(peer)].data()));
}

void NodeGroup::ring_doorbells() {
  // Our change, the sleeper's flag and both loads of them are sequentially consistent: either we see that it
  // sleeps, or it sees our change before it does.
  for (int peer = 0; peer < size(); ++peer) {
    RankBlock& other = block(peer);
    if (peer == index() || other.sleeping.load() == 0) continue;
    other.doorbell.fetch_add(1, std::memory_order_relaxed);
    futex_wake(other.doorbell);
  }
}

/// `laggard` gives a local index that is still awaited, or -1.
Status NodeGroup::wait_until(const std::function<int()>& laggard, const Deadline& deadline, bool may_spin,
                             const char* what) {
  if (laggard() < 0) return {};
  if (may_spin && spin_ > Duration::zero()) {
    const Instant end = steady_clock.now() + spin_;
    do {
      for (int i = 0; i < 64; ++i) {
        if (laggard() < 0) return {};
        pause_cpu();
      }
      if (abort_.raised()) return abort_.status();
    } while (steady_clock.now() < end);
  }
  RankBlock& own = block(index());
  while (true) {
    const std::uint32_t seen = own.doorbell.load(std::memory_order_relaxed);
    own.sleeping.store(1);
    const int late = laggard();
    if (late >= 0 && !abort_.raised() && !deadline.passed())
      futex_wait(own.doorbell, seen, std::min(longest_nap, deadline.left()));
    own.sleeping.store(0, std::memory_order_relaxed);
    if (late < 0) return {};
    PACELINE_TRY(abort_.status());
    if (deadline.passed()) {
      const int rank = layout_.topology().local_ranks[static_cast<std::size_t>(late)];
      const Slot& mine = own.slots[turn_ & 1];
      return Error{ErrorCode::timeout,
                   concat("rank ", rank, " did not ", what, " in time in ", describe(mine.descriptor)), rank};
    }
  }
}

void NodeGroup::offer(const Descriptor& descriptor, const Location& location,
                      std::span<const std::byte> payload) {
  PACELINE_ASSERT(payload.size() <= inline_bytes, "a payload fits its slot");
  ++turn_;
  RankBlock& own = block(index());
  Slot& slot = own.slots[turn_ & 1];
  slot.descriptor = descriptor;
  slot.location = location;
  if (!payload.empty()) std::memcpy(slot.payload, payload.data(), payload.size());
  own.offered.store(turn_);
  ring_doorbells();
}

Status NodeGroup::await_offers(const Deadline& deadline, bool may_spin) {
  const auto laggard = [this] {
    for (int peer = 0; peer < size(); ++peer)
      if (block(peer).offered.load() < turn_) return peer;
    return -1;
  };
  PACELINE_TRY(wait_until(laggard, deadline, may_spin, "come"));
  const Descriptor& mine = block(index()).slots[turn_ & 1].descriptor;
  for (int peer = 0; peer < size(); ++peer) {
    const Descriptor& theirs = block(peer).slots[turn_ & 1].descriptor;
    if (!(mine == theirs))
      return mismatch_error(layout_.rank(), mine,
                            layout_.topology().local_ranks[static_cast<std::size_t>(peer)], theirs);
  }
  return {};
}

const Location& NodeGroup::offered_location(int peer) const {
  return block(peer).slots[turn_ & 1].location;
}

std::span<const std::byte> NodeGroup::offered_payload(int peer, std::size_t bytes) const {
  return {block(peer).slots[turn_ & 1].payload, bytes};
}

void NodeGroup::finish() {
  block(index()).finished.store(turn_);
  ring_doorbells();
}

Status NodeGroup::await_finished_by_all(const Deadline& deadline, bool may_spin) {
  const auto laggard = [this] {
    for (int peer = 0; peer < size(); ++peer)
      if (block(peer).finished.load() < turn_) return peer;
    return -1;
  };
  return wait_until(laggard, deadline, may_spin, "finish its part");
}

std::byte* NodeGroup::own_outcome() {
  return block(index()).slots[turn_ & 1].outcome;
}

Result<const std::byte*> NodeGroup::await_outcome(int peer, const Deadline& deadline, bool may_spin) {
  const auto laggard = [this, peer] { return block(peer).finished.load() < turn_ ? peer : -1; };
  PACELINE_TRY(wait_until(laggard, deadline, may_spin, "finish its part"));
  return static_cast<const std::byte*>(block(peer).slots[turn_ & 1].outcome);
}

Result<std::uint32_t> NodeGroup::allocate(std::size_t bytes, const Deadline& deadline) {
  Allocation allocation;
  UniqueFd descriptor;
  PACELINE_ASSIGN(Memory own, Memory::create(bytes, descriptor));
  PACELINE_ASSIGN(allocation.memory, handshake_.exchange(descriptor, bytes, {deadline, abort_}));
  allocation.memory[static_cast<std::size_t>(index())] = std::move(own);
  const std::lock_guard lock(allocations_mutex_);
  allocation.id = next_allocation_++;
  allocations_.push_back(std::move(allocation));
  return allocations_.back().id;
}

void NodeGroup::release(std::uint32_t allocation) {
  const std::lock_guard lock(allocations_mutex_);
  std::erase_if(allocations_, [&](const Allocation& a) { return a.id == allocation; });
}

const NodeGroup::Allocation* NodeGroup::find(std::uint32_t id) const {
  for (const Allocation& allocation : allocations_)
    if (allocation.id == id) return &allocation;
  return nullptr;
}

Location NodeGroup::locate(const void* data, std::size_t bytes) const {
  const std::lock_guard lock(allocations_mutex_);
  const auto* at = static_cast<const std::byte*>(data);
  for (const Allocation& allocation : allocations_) {
    const Memory& own = allocation.memory[static_cast<std::size_t>(index())];
    if (at >= own.data() && bytes <= own.bytes() &&
        at - own.data() <= static_cast<std::ptrdiff_t>(own.bytes() - bytes))
      return {allocation.id, static_cast<std::uint64_t>(at - own.data()), true};
  }
  return {};
}

std::byte* NodeGroup::at(int peer, const Location& location, std::size_t bytes) const {
  const std::lock_guard lock(allocations_mutex_);
  const Allocation* allocation = find(location.allocation);
  if (allocation == nullptr) return nullptr;
  const Memory& memory = allocation->memory[static_cast<std::size_t>(peer)];
  if (bytes > memory.bytes() || location.offset > memory.bytes() - bytes) return nullptr;
  return memory.data() + location.offset;
}

}  // namespace paceline::shm

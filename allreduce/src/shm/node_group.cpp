#include "node_group.hpp"

#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <thread>

#include "../waiting.hpp"
#include "paceline/base/assert.hpp"
#include "paceline/base/text.hpp"

namespace paceline::shm {
namespace {

const SteadyClock steady_clock;

void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t seen, Duration at_most) {
  const auto ns = at_most.count();
  const timespec timeout{ns / 1'000'000'000, ns % 1'000'000'000};
  ::syscall(SYS_futex, &word, FUTEX_WAIT, seen, &timeout, nullptr, 0);
}

void futex_wake(std::atomic<std::uint32_t>& word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
}

// A rank that has worked for a while waits about as long before it sleeps, since being woken may take longer
// than the wait; but not longer than this.
constexpr Duration longest_spin = std::chrono::milliseconds(5);
constexpr std::uint32_t pull_magic = 0x70756c6c;

void pause_cpu() {
#ifdef __x86_64__
  __builtin_ia32_pause();
#endif
}

}  // namespace

/// What a rank offers in one turn, and the outcome if it is the one who computes it. What small collectives
/// need comes first and together: one cache line, if the payload is a number.
struct alignas(64) NodeGroup::Slot {
  std::atomic<std::uint64_t> turn;  // written last
  Descriptor descriptor;
  double weight;
  std::uint64_t submitted;
  std::byte payload[inline_bytes];
  alignas(64) Location input;
  Location output;
  std::uint64_t input_address;
  std::uint64_t output_address;
  std::uint32_t way;
  alignas(64) std::byte outcome[inline_bytes + sizeof(std::uint64_t)];
};

/// One rank's part of the control block: written by that rank alone, but for the doorbell.
struct alignas(128) NodeGroup::RankBlock {
  std::atomic<std::uint32_t> doorbell;  // futex: peers count it up after a change, if its owner sleeps
  std::atomic<std::uint32_t> sleeping;
  std::atomic<std::uint32_t> stopped;
  std::uint32_t magic;                              // what peers should find at magic_address
  std::uint64_t magic_address;                      // of `magic` in its owner's memory
  std::atomic<std::uint32_t> pulls;                 // 1: it could read all its peers' magic
  alignas(64) std::atomic<std::uint64_t> finished;  // the last turn finished
  alignas(64) std::atomic<std::uint64_t> stages[3];
  Slot slots[2];  // of even and odd turns
};

NodeGroup::NodeGroup(const Layout& layout, Handshake handshake, Duration spin, AbortSignal& abort)
    : layout_(layout),
      handshake_(std::move(handshake)),
      spin_(spin),
      crowded_(static_cast<unsigned>(layout.local_size()) > std::thread::hardware_concurrency()),
      abort_(abort) {
}

NodeGroup::~NodeGroup() = default;

Result<std::shared_ptr<NodeGroup>> NodeGroup::make(const Layout& layout, Handshake handshake,
                                                   std::size_t staging_bytes, Duration spin,
                                                   AbortSignal& abort, const Deadline& deadline) {
  std::shared_ptr<NodeGroup> group(new NodeGroup(layout, std::move(handshake), spin, abort));
  UniqueFd descriptor;
  PACELINE_ASSIGN(Memory block, Memory::create(sizeof(RankBlock), descriptor));
  PACELINE_TRY(block.make_present(sizeof(RankBlock)));
  auto* own = new (block.data()) RankBlock{};
  own->magic = pull_magic;
  own->magic_address = reinterpret_cast<std::uintptr_t>(&own->magic);
  PACELINE_ASSIGN(group->control_,
                  group->exchange(sizeof(RankBlock), std::move(block), descriptor, deadline));
  for (const Memory& memory : group->control_)
    group->blocks_.push_back(reinterpret_cast<RankBlock*>(memory.data()));
  if (group->size() > 1) {
    PACELINE_ASSIGN(Memory staging, Memory::create(staging_bytes, descriptor));
    PACELINE_ASSIGN(group->staging_,
                    group->exchange(staging_bytes, std::move(staging), descriptor, deadline));
    group->find_out_about_pulling();  // the exchange has told that all have written their blocks
  }
  abort.on_raise([waiter = std::weak_ptr<NodeGroup>(group)] {
    const std::shared_ptr<NodeGroup> alive = waiter.lock();
    if (alive == nullptr) return;
    std::atomic<std::uint32_t>& doorbell = alive->block(alive->index()).doorbell;
    doorbell.fetch_add(1);
    futex_wake(doorbell);
  });
  return group;
}

Result<std::vector<Memory>> NodeGroup::exchange(std::size_t bytes, Memory own, const UniqueFd& descriptor,
                                                const Deadline& deadline) {
  PACELINE_ASSIGN(std::vector<Memory> all, handshake_.exchange(descriptor, bytes, {deadline, abort_}));
  all[static_cast<std::size_t>(index())] = std::move(own);
  return all;
}

NodeGroup::Slot& NodeGroup::slot(int peer) const {
  return block(peer).slots[turn_ & 1];
}

/// Security settings may forbid it: then data goes through staging. The word is in the block before this rank
/// first offers anything.
void NodeGroup::find_out_about_pulling() {
  bool works = true;
  for (int peer = 0; peer < size() && works; ++peer) {
    std::uint32_t found = 0;
    works = pull(peer, block(peer).magic_address, &found, sizeof found).ok() && found == pull_magic;
  }
  block(index()).pulls.store(works ? 1 : 0);
}

bool NodeGroup::can_pull() const {
  for (int peer = 0; peer < size(); ++peer)
    if (block(peer).pulls.load() == 0) return false;
  return true;
}

Status NodeGroup::pull(int peer, std::uint64_t address, void* into, std::size_t bytes) const {
  const int process = handshake_.process_id(peer);
  for (std::size_t done = 0; done < bytes;) {
    const iovec here{static_cast<std::byte*>(into) + done, bytes - done};
    const iovec there{reinterpret_cast<void*>(address + done), bytes - done};
    const ssize_t got = ::process_vm_readv(process, &here, 1, &there, 1, 0);
    if (got > 0) {
      done += static_cast<std::size_t>(got);
      continue;
    }
    if (got < 0 && errno == EINTR) continue;
    const int code = got == 0 ? ESRCH : errno;
    const int rank = layout_.topology().local_ranks[static_cast<std::size_t>(peer)];
    const Error why = system_error("process_vm_readv", code);
    return Error{code == ESRCH || code == EFAULT ? ErrorCode::peer_lost : ErrorCode::io,
                 concat("cannot read the memory of rank ", rank, ": ", why.message), rank};
  }
  return {};
}

void NodeGroup::ring_doorbells() {
  for (int peer = 0; peer < size(); ++peer) {
    RankBlock& other = block(peer);
    if (peer == index() || other.sleeping.load() == 0) continue;
    other.doorbell.fetch_add(1, std::memory_order_relaxed);
    futex_wake(other.doorbell);
  }
}

Error NodeGroup::late_error(int late, const char* what) const {
  const int rank = layout_.topology().local_ranks[static_cast<std::size_t>(late)];
  return {ErrorCode::timeout,
          concat("rank ", rank, " did not ", what, " in time in ", describe(slot(index()).descriptor)), rank};
}

/// A short look, some microseconds: true if the wait is over. Where ranks share cores, the one that is
/// awaited needs this one.
bool NodeGroup::look_awhile(const std::function<int()>& late) const {
  for (int i = 0; i < 64; ++i) {
    if (late() < 0) return true;
    if (crowded_)
      ::sched_yield();
    else
      pause_cpu();
  }
  return false;
}

bool NodeGroup::spin_until(const std::function<int()>& late, Instant end) const {
  do {
    if (look_awhile(late)) return true;
  } while (!abort_.raised() && steady_clock.now() < end);
  return false;
}

Status NodeGroup::wait_until(const std::function<int()>& late, const Patience& patience, const char* what) {
  if (late() < 0) return {};
  const bool spins = patience.may_spin && spin_ > Duration::zero();
  if (spins && look_awhile(late)) return {};
  const Instant begin = steady_clock.now();
  const Duration worked = patience.began == Instant{} ? Duration::zero() : begin - patience.began;
  const Duration spin = std::max(spin_, std::min(worked, longest_spin));
  Status status;
  if (!spins || !spin_until(late, begin + spin)) status = sleep_until(late, patience, what);
  waited_ += steady_clock.now() - begin;
  return status;
}

Status NodeGroup::sleep_until(const std::function<int()>& late, const Patience& patience, const char* what) {
  RankBlock& own = block(index());
  while (true) {
    const std::uint32_t seen = own.doorbell.load(std::memory_order_relaxed);
    own.sleeping.store(1);
    const int who = late();
    if (who >= 0 && !abort_.raised() && !patience.deadline.passed())
      futex_wait(own.doorbell, seen, std::min(longest_nap, patience.deadline.left()));
    own.sleeping.store(0, std::memory_order_relaxed);
    if (who < 0) return {};
    PACELINE_TRY(abort_.status());
    if (patience.deadline.passed()) return late_error(who, what);
  }
}

void NodeGroup::offer(const Offer& offer, std::span<const std::byte> payload) {
  PACELINE_ASSERT(payload.size() <= inline_bytes, "a payload fits its slot");
  ++turn_;
  Slot& own = slot(index());
  own.descriptor = offer.descriptor;
  own.weight = offer.weight;
  own.submitted = offer.submitted;
  own.input = offer.input;
  own.output = offer.output;
  own.input_address = offer.input_address;
  own.output_address = offer.output_address;
  own.way = offer.way;
  if (!payload.empty()) std::memcpy(own.payload, payload.data(), payload.size());
  own.turn.store(turn_);
  ring_doorbells();
}

Status NodeGroup::await_offers(const Patience& patience) {
  const auto late = [this] {
    for (int peer = 0; peer < size(); ++peer)
      if (slot(peer).turn.load() != turn_) return peer;
    return -1;
  };
  PACELINE_TRY(wait_until(late, patience, "come"));
  const Descriptor& mine = slot(index()).descriptor;
  for (int peer = 0; peer < size(); ++peer) {
    const Descriptor& theirs = slot(peer).descriptor;
    if (!(mine == theirs))
      return mismatch_error(layout_.rank(), mine,
                            layout_.topology().local_ranks[static_cast<std::size_t>(peer)], theirs);
  }
  return {};
}

const std::byte* NodeGroup::offered_payload(int peer) const {
  return slot(peer).payload;
}
double NodeGroup::offered_weight(int peer) const {
  return slot(peer).weight;
}
std::uint64_t NodeGroup::offered_submitted(int peer) const {
  return slot(peer).submitted;
}
const Location& NodeGroup::offered_input(int peer) const {
  return slot(peer).input;
}
const Location& NodeGroup::offered_output(int peer) const {
  return slot(peer).output;
}

std::uint64_t NodeGroup::offered_input_address(int peer) const {
  return slot(peer).input_address;
}
std::uint64_t NodeGroup::offered_output_address(int peer) const {
  return slot(peer).output_address;
}
std::uint32_t NodeGroup::offered_way(int peer) const {
  return slot(peer).way;
}

void NodeGroup::finish() {
  block(index()).finished.store(turn_);
  ring_doorbells();
}

Status NodeGroup::await_finished_by_all(const Patience& patience) {
  const auto late = [this] {
    for (int peer = 0; peer < size(); ++peer)
      if (block(peer).finished.load() < turn_) return peer;
    return -1;
  };
  return wait_until(late, patience, "finish its part");
}

std::byte* NodeGroup::own_outcome() {
  return slot(index()).outcome;
}

Result<const std::byte*> NodeGroup::await_outcome(int peer, const Patience& patience) {
  const auto late = [this, peer] { return block(peer).finished.load() < turn_ ? peer : -1; };
  PACELINE_TRY(wait_until(late, patience, "finish its part"));
  return static_cast<const std::byte*>(slot(peer).outcome);
}

void NodeGroup::advance(Stage stage, std::uint64_t rounds) {
  block(index()).stages[static_cast<std::size_t>(stage)].store(rounds);
  ring_doorbells();
}

std::uint64_t NodeGroup::progress_of(int peer, Stage stage) const {
  return block(peer).stages[static_cast<std::size_t>(stage)].load();
}

int NodeGroup::behind(Stage stage, std::uint64_t rounds) const {
  for (int peer = 0; peer < size(); ++peer)
    if (progress_of(peer, stage) < rounds) return peer;
  return -1;
}

Result<std::uint32_t> NodeGroup::allocate(std::size_t bytes, const Deadline& deadline) {
  Allocation allocation;
  UniqueFd descriptor;
  PACELINE_ASSIGN(Memory own, Memory::create(bytes, descriptor));
  PACELINE_TRY(own.make_present(bytes));
  PACELINE_ASSIGN(allocation.memory, exchange(bytes, std::move(own), descriptor, deadline));
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
      return {allocation.id, 1, static_cast<std::uint64_t>(at - own.data())};
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

std::byte* NodeGroup::staging_of(int peer) const {
  return staging_[static_cast<std::size_t>(peer)].data();
}

Status NodeGroup::make_staging_present(std::size_t bytes) {
  return staging_[static_cast<std::size_t>(index())].make_present(bytes);
}

void NodeGroup::stop() {
  block(index()).stopped.store(1);
  ring_doorbells();
}

Status NodeGroup::quiesce(const Deadline& deadline) {
  for (int peer = 0; peer < size(); ++peer) {
    while (peer != index() && block(peer).stopped.load() == 0) {
      if (handshake_.has_ended(peer, std::chrono::milliseconds(1))) break;
      const int rank = layout_.topology().local_ranks[static_cast<std::size_t>(peer)];
      if (deadline.passed())
        return Error{
            ErrorCode::timeout,
            concat("rank ", rank, " has neither stopped nor ended: it may still write to shared memory"),
            rank};
    }
  }
  return {};
}

}  // namespace paceline::shm

#include "group.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "paceline/base/text.hpp"

namespace paceline::cuda::ipc {
namespace {

constexpr std::size_t alignment = 4096;

constexpr std::size_t round_up(std::size_t bytes) {
  return (bytes + alignment - 1) / alignment * alignment;
}
constexpr std::size_t flags_bytes = round_up(sizeof(FlagPage));

/// What a rank gives the others of its node so that they can map its staging.
struct Invitation {
  cudaIpcMemHandle_t handle = {};
  std::uint64_t address = 0;  ///< in its own process
  char trouble[256] = {};     ///< why it has none; empty otherwise
};

/// Whether all ranks succeeded; the first one's trouble where not. The same on all ranks.
Status agree(Communicator& control, const Status& own) {
  std::vector<Invitation> all(static_cast<std::size_t>(control.size()));
  if (!own.ok()) put(all[static_cast<std::size_t>(control.rank())].trouble, own.error().message);
  PACELINE_TRY(control.all_gather(all.data(), sizeof(Invitation), DataType::u8));
  for (std::size_t rank = 0; rank < all.size(); ++rank)
    if (all[rank].trouble[0] != '\0')
      return Error{ErrorCode::unsupported, concat("rank ", rank, ": ", all[rank].trouble),
                   static_cast<int>(rank)};
  return {};
}

Status may_map(const DeviceFacts& mine, const DeviceFacts& its) {
  if (mine.host != its.host) return Error{ErrorCode::unsupported, "ranks of its node are on another host"};
  return {};
}

/// Peers in the same process have the same addresses, once their GPUs may see each other.
Result<std::byte*> reach_within_process(const Invitation& invitation, const DeviceFacts& mine,
                                        const DeviceFacts& its) {
  if (mine.device != its.device) {
    int can = 0;
    PACELINE_TRY(check(cudaDeviceCanAccessPeer(&can, mine.device, its.device), "GPUs cannot be asked about"));
    if (can == 0)
      return Error{ErrorCode::unsupported,
                   concat("GPU ", mine.device, " cannot reach the memory of GPU ", its.device)};
    const cudaError_t code = cudaDeviceEnablePeerAccess(its.device, 0);
    if (code == cudaErrorPeerAccessAlreadyEnabled) [[maybe_unused]]
      const cudaError_t cleared = cudaGetLastError();
    else
      PACELINE_TRY(check(code, "the memory of another GPU cannot be reached"));
  }
  return reinterpret_cast<std::byte*>(invitation.address);
}

Arithmetic arithmetic_of(const Descriptor& d) {
  return {d.type, d.op, d.codec == Codec::fixed_point};
}

Scaling scaling_of(const Descriptor& d, double divisor) {
  return {divisor, d.codec == Codec::fixed_point ? std::ldexp(1.0, d.exponent) : 1.0};
}

}  // namespace

Result<std::unique_ptr<Group>> Group::make(Communicator& control, std::span<const DeviceFacts> facts,
                                           std::size_t bytes, Duration timeout) {
  std::unique_ptr<Group> group(new Group);
  group->local_ranks_ = control.topology().local_ranks;
  const auto own = std::find(group->local_ranks_.begin(), group->local_ranks_.end(), control.rank());
  group->index_ = static_cast<int>(own - group->local_ranks_.begin());
  group->half_bytes_ = round_up(std::max(bytes / 2, std::size_t{1} << 20));
  group->timeout_ns_ = static_cast<std::uint64_t>(timeout.count());
  const Status mapped = group->map_peers(control, facts);
  PACELINE_TRY(mapped);
  return group;
}

Status Group::map_peers(Communicator& control, std::span<const DeviceFacts> facts) {
  std::vector<Invitation> invitations(static_cast<std::size_t>(control.size()));
  Invitation& mine = invitations[static_cast<std::size_t>(control.rank())];
  const auto prepare = [&]() -> Status {
    if (size() > most_ranks)
      return Error{ErrorCode::unsupported,
                   concat("its node has ", size(), " ranks, and CUDA IPC is used for up to ", most_ranks)};
    for (const int peer : local_ranks_)
      PACELINE_TRY(
          may_map(facts[static_cast<std::size_t>(control.rank())], facts[static_cast<std::size_t>(peer)]));
    PACELINE_ASSIGN(own_, allocate_device(flags_bytes + 2 * half_bytes_));
    PACELINE_ASSIGN(words_memory_, allocate_pinned(sizeof(HostWords)));
    mine.address = reinterpret_cast<std::uint64_t>(own_.get());
    return check(cudaIpcGetMemHandle(&mine.handle, own_.get()), "its memory cannot be shared (CUDA IPC)");
  };
  PACELINE_TRY(agree(control, prepare()));
  PACELINE_TRY(control.all_gather(invitations.data(), sizeof(Invitation), DataType::u8));
  const auto map = [&]() -> Status {
    const DeviceFacts& my_facts = facts[static_cast<std::size_t>(control.rank())];
    mapped_.resize(local_ranks_.size());
    opened_.resize(local_ranks_.size());
    for (std::size_t i = 0; i < local_ranks_.size(); ++i) {
      const auto peer = static_cast<std::size_t>(local_ranks_[i]);
      if (local_ranks_[i] == control.rank()) {
        mapped_[i] = own_.get();
      } else if (facts[peer].process == my_facts.process) {
        PACELINE_ASSIGN(mapped_[i], reach_within_process(invitations[peer], my_facts, facts[peer]));
      } else {
        void* memory = nullptr;
        PACELINE_TRY(
            check(cudaIpcOpenMemHandle(&memory, invitations[peer].handle, cudaIpcMemLazyEnablePeerAccess),
                  concat("it cannot map the memory of rank ", peer, " (CUDA IPC)")));
        mapped_[i] = static_cast<std::byte*>(memory);
        opened_[i] = true;
      }
    }
    return {};
  };
  const Status mapped = map();
  // A refusal must not be taken for that of the next call.
  if (!mapped.ok()) [[maybe_unused]]
    const cudaError_t cleared = cudaGetLastError();
  return agree(control, mapped);
}

Group::~Group() {
  for (std::size_t i = 0; i < opened_.size(); ++i)
    if (opened_[i]) [[maybe_unused]]
      const cudaError_t ignored = cudaIpcCloseMemHandle(mapped_[i]);
}

Peers Group::next_peers() {
  Peers peers;
  peers.rank = index_;
  peers.size = size();
  const std::size_t half = kernels_++ % 2 * half_bytes_;
  for (std::size_t i = 0; i < mapped_.size(); ++i) {
    peers.pages[i] = reinterpret_cast<std::uint32_t*>(mapped_[i]);
    peers.staging[i] = mapped_[i] + flags_bytes + half;
  }
  peers.words = reinterpret_cast<HostWords*>(words_memory_.get());
  peers.timeout_ns = timeout_ns_;
  return peers;
}

std::size_t Group::most_elements(DataType type) const {
  return (half_bytes_ - header_bytes) / element_bytes(type);
}

Status Group::run_one_shot(const Request& request, const Arithmetic& arithmetic, double divisor,
                           cudaStream_t stream) {
  const std::size_t unit = element_bytes(request.descriptor.type);
  const std::size_t most = most_elements(request.descriptor.type) / 16 * 16;
  std::size_t first = 0;
  do {
    OneShot<std::byte> call;
    call.count = std::min(most, static_cast<std::size_t>(request.descriptor.count) - first);
    call.input = request.input + first * unit;
    call.output = request.output + first * unit;
    call.weight = request.weight;
    call.scaling = scaling_of(request.descriptor, divisor);
    call.turn = ++turn_;
    PACELINE_TRY(launch(arithmetic, next_peers(), call, stream));
    first += call.count;
  } while (first < request.descriptor.count);
  return {};
}

Status Group::run_rows(ByRows<std::byte> call, const Arithmetic& arithmetic, cudaStream_t stream) {
  const std::size_t longest = *std::max_element(call.row_count, call.row_count + size());
  const std::size_t rows = call.reduces ? static_cast<std::size_t>(size()) : 1;
  const std::size_t most = most_elements(arithmetic.type) / rows / 16 * 16;
  call.step = std::min(most, (longest + 15) / 16 * 16);
  call.offset = 0;
  do {
    call.turn = ++turn_;
    if (call.reduces && call.gathers) ++turn_;
    PACELINE_TRY(launch(arithmetic, next_peers(), call, stream));
    call.offset += call.step;
  } while (call.offset < longest);
  return {};
}

Status Group::run(const Request& request, bool in_one_shot, cudaStream_t stream) {
  const Descriptor& d = request.descriptor;
  const std::size_t count = d.count;
  const double divisor = d.op == ReduceOp::average ? size() : 1.0;
  ByRows<std::byte> call;
  call.input = request.input;
  call.output = request.output;
  call.weight = request.weight;
  call.scaling = scaling_of(d, divisor);
  for (int row = 0; row < size(); ++row) {
    call.row_begin[row] = static_cast<std::size_t>(row) * count;
    call.row_count[row] = count;
  }
  switch (d.kind) {
    case CollectiveKind::all_reduce:
      if (in_one_shot) return run_one_shot(request, arithmetic_of(d), divisor, stream);
      for (int row = 0; row < size(); ++row) {
        const ElementRange range = part_of({0, count}, row, size());
        call.row_begin[row] = range.begin;
        call.row_count[row] = range.size();
      }
      call.reduces = true;
      call.gathers = true;
      break;
    case CollectiveKind::reduce_scatter: call.reduces = true; break;
    case CollectiveKind::all_gather: call.gathers = true; break;
    case CollectiveKind::broadcast:
      for (int row = 0; row < size(); ++row) {
        call.row_begin[row] = 0;
        call.row_count[row] = local_ranks_[static_cast<std::size_t>(row)] == d.root ? count : 0;
      }
      call.gathers = true;
      break;
    case CollectiveKind::barrier:
    case CollectiveKind::probe: return run_one_shot(request, arithmetic_of(d), 1.0, stream);
  }
  return run_rows(call, arithmetic_of(d), stream);
}

Status Group::reduce(const Request& request, const std::vector<ElementRange>& ranges, double divisor,
                     cudaStream_t stream) {
  ByRows<std::byte> call;
  call.reduces = true;
  call.input = request.input;
  const std::size_t own = ranges[static_cast<std::size_t>(index_)].begin;
  call.output = request.output + own * element_bytes(request.descriptor.type);
  call.weight = request.weight;
  call.scaling = scaling_of(request.descriptor, divisor);
  for (std::size_t row = 0; row < ranges.size(); ++row) {
    call.row_begin[row] = ranges[row].begin;
    call.row_count[row] = ranges[row].size();
  }
  return run_rows(call, arithmetic_of(request.descriptor), stream);
}

Status Group::gather(std::byte* data, DataType type, const std::vector<ElementRange>& ranges,
                     cudaStream_t stream) {
  ByRows<std::byte> call;
  call.gathers = true;
  call.output = data;
  call.input = data + ranges[static_cast<std::size_t>(index_)].begin * element_bytes(type);
  for (std::size_t row = 0; row < ranges.size(); ++row) {
    call.row_begin[row] = ranges[row].begin;
    call.row_count[row] = ranges[row].size();
  }
  return run_rows(call, {type, ReduceOp::sum, false}, stream);
}

void Group::abort() {
  store_release(&reinterpret_cast<HostWords*>(words_memory_.get())->abort, 1);
}

Status Group::outcome() const {
  const auto* words = reinterpret_cast<const HostWords*>(words_memory_.get());
  switch (static_cast<Outcome>(load_acquire(&words->outcome))) {
    case Outcome::well: return {};
    case Outcome::aborted: return Error{ErrorCode::aborted, "a collective on the GPU was given up"};
    case Outcome::late: break;
  }
  const int rank = local_ranks_[std::min<std::size_t>(load_acquire(&words->late), local_ranks_.size() - 1)];
  return Error{ErrorCode::timeout,
               concat("rank ", rank,
                      "'s GPU did not come to a collective in time: its process may stand still, or "
                      "call something else"),
               rank};
}

}  // namespace paceline::cuda::ipc

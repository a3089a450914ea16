#include "group.hpp"

#include <nccl.h>

#include <atomic>
#include <cstring>
#include <mutex>
#include <thread>

#include "../device.hpp"
#include "../kernels/element.cuh"
#include "paceline/base/clock.hpp"
#include "paceline/base/text.hpp"

namespace paceline::cuda::nccl {
namespace {

const SteadyClock steady_clock;
constexpr Duration nap = std::chrono::microseconds(20);

Error nccl_error(ncclResult_t code, ncclComm_t comm, std::string_view what) {
  const ErrorCode kind = code == ncclRemoteError ? ErrorCode::peer_lost : ErrorCode::io;
  const char* last = ncclGetLastError(comm);
  std::string text = concat(what, ": NCCL: ", ncclGetErrorString(code));
  if (last != nullptr && *last != '\0') text += concat(" (", last, ")");
  return {kind, concat(text, "; NCCL_DEBUG=WARN tells more")};
}

ncclDataType_t type_of(DataType type) {
  switch (type) {
    case DataType::f32: return ncclFloat32;
    case DataType::f64: return ncclFloat64;
    case DataType::i32: return ncclInt32;
    case DataType::i64: return ncclInt64;
    case DataType::f16: return ncclFloat16;
    case DataType::bf16: return ncclBfloat16;
    case DataType::u8: break;
  }
  return ncclUint8;
}

ncclRedOp_t op_of(ReduceOp op) {
  switch (op) {
    case ReduceOp::min: return ncclMin;
    case ReduceOp::max: return ncclMax;
    case ReduceOp::average: return ncclAvg;
    case ReduceOp::sum: break;
  }
  return ncclSum;
}

/// A number as NCCL wants a scalar: of the data's type.
struct Scalar {
  alignas(8) unsigned char bytes[8] = {};
  Scalar(double value, DataType type) {
    const auto put = [this](auto typed) { std::memcpy(bytes, &typed, sizeof typed); };
    switch (type) {
      case DataType::f64: put(value); break;
      case DataType::f16: put(kernels::narrow_f16(static_cast<float>(value))); break;
      case DataType::bf16: put(kernels::narrow_bf16(static_cast<float>(value))); break;
      default: put(static_cast<float>(value)); break;
    }
  }
};

class LiveGroup final : public Group {
 public:
  LiveGroup(int size, Duration timeout) : size_(size), timeout_(timeout) {}
  ~LiveGroup() override { end(); }

  Status connect(Communicator& control, const ncclUniqueId& id) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    const std::lock_guard lock(mutex_);
    const ncclResult_t code = ncclCommInitRankConfig(&comm_, size_, id, control.rank(), &config);
    return settle(code, "NCCL cannot connect the ranks", [&control] { return control.health(); });
  }

  Status run(const Request& request, cudaStream_t stream) override {
    const std::lock_guard lock(mutex_);
    if (comm_ == nullptr) return Error{ErrorCode::aborted, "NCCL's communicator was aborted"};
    const Descriptor& d = request.descriptor;
    ncclRedOp_t op = op_of(d.op);
    const bool weighted = request.weight != 1.0;
    if (weighted) {
      const double weight = d.op == ReduceOp::average ? request.weight / size_ : request.weight;
      Scalar scalar(weight, d.type);
      PACELINE_TRY(
          settle(ncclRedOpCreatePreMulSum(&op, scalar.bytes, type_of(d.type), ncclScalarHostImmediate, comm_),
                 "a weighted sum cannot be made"));
    }
    const Status begun = settle(begin(request, op, stream), paceline::describe(d));
    if (weighted && begun.ok())
      PACELINE_TRY(settle(ncclRedOpDestroy(op, comm_), "a weighted sum cannot be ended"));
    return begun;
  }

  void abort() override {
    aborted_ = true;  // whoever waits in settle() lets go of the mutex
    const std::lock_guard lock(mutex_);
    end();
  }

  Status health() override {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock() || comm_ == nullptr) return {};  // whoever has it sees the error
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
    if (asked == ncclSuccess && (state == ncclSuccess || state == ncclInProgress)) return {};
    return nccl_error(asked != ncclSuccess ? asked : state, comm_, "a collective failed");
  }

 private:
  ncclResult_t begin(const Request& request, ncclRedOp_t op, cudaStream_t stream) {
    const Descriptor& d = request.descriptor;
    const ncclDataType_t type = type_of(d.type);
    switch (d.kind) {
      case CollectiveKind::all_reduce:
        return ncclAllReduce(request.input, request.output, d.count, type, op, comm_, stream);
      case CollectiveKind::reduce_scatter:
        return ncclReduceScatter(request.input, request.output, d.count, type, op, comm_, stream);
      case CollectiveKind::all_gather:
        return ncclAllGather(request.input, request.output, d.count, type, comm_, stream);
      case CollectiveKind::broadcast:
        return ncclBroadcast(request.input, request.output, d.count, type, d.root, comm_, stream);
      case CollectiveKind::barrier:
      case CollectiveKind::probe: break;
    }
    return ncclAllReduce(request.input, request.output, d.count, type, ncclMax, comm_, stream);
  }

  /// Until NCCL has done what it was asked for. A non-blocking communicator answers "in progress" first, and
  /// nothing else may be asked of it meanwhile.
  Status settle(ncclResult_t code, std::string_view what, const std::function<Status()>& alive = {}) {
    const Deadline deadline(steady_clock, timeout_);
    while (code == ncclInProgress) {
      if (aborted_) return Error{ErrorCode::aborted, concat(what, ": it was given up")};
      if (alive) PACELINE_TRY(alive());
      if (deadline.passed())
        return Error{ErrorCode::timeout, concat(what, ": NCCL did not come to an end in time")};
      std::this_thread::sleep_for(nap);
      const ncclResult_t asked = ncclCommGetAsyncError(comm_, &code);
      if (asked != ncclSuccess) code = asked;
    }
    if (code == ncclSuccess) return {};
    return nccl_error(code, comm_, what);
  }

  /// Abort, also where nothing failed: to finalize would wait for ranks that may be gone.
  void end() {
    if (comm_ == nullptr) return;
    // What revoke adds to this, stopping collectives but keeping the communicator to shrink it, is not
    // needed: the next one is made from a host communicator of the survivors.
    [[maybe_unused]] const ncclResult_t ignored = ncclCommAbort(comm_);
    comm_ = nullptr;
  }

  int size_;
  Duration timeout_;
  std::mutex mutex_;
  std::atomic<bool> aborted_ = false;
  ncclComm_t comm_ = nullptr;
};

}  // namespace

void look(DeviceFacts& facts) {
  facts.nccl_header = NCCL_VERSION_CODE;
  int version = 0;
  if (ncclGetVersion(&version) == ncclSuccess) facts.nccl_library = version;
}

Result<std::unique_ptr<Group>> Group::make(Communicator& control, Duration timeout) {
  ncclUniqueId id{};
  std::int32_t made = 1;
  if (control.rank() == 0) made = ncclGetUniqueId(&id) == ncclSuccess ? 1 : 0;
  PACELINE_TRY(control.broadcast(&made, 1, DataType::i32, 0));
  if (made == 0)
    return Error{ErrorCode::io, "rank 0: NCCL finds no network interface; look at NCCL_SOCKET_IFNAME", 0};
  PACELINE_TRY(control.broadcast(&id, sizeof id, DataType::u8, 0));
  auto group = std::make_unique<LiveGroup>(control.size(), timeout);
  const Status connected = group->connect(control, id);
  // All or none.
  std::int32_t well = connected.ok() ? 1 : 0;
  PACELINE_TRY(control.all_reduce(&well, 1, DataType::i32, ReduceOp::min));
  if (!connected.ok()) return connected.error();
  if (well == 0) return Error{ErrorCode::unsupported, "another rank could not connect to NCCL: it says why"};
  return std::unique_ptr<Group>(std::move(group));
}

}  // namespace paceline::cuda::nccl

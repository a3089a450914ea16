#include "group.hpp"

namespace paceline::cuda::nccl {

void look(DeviceFacts&) {
}

Result<std::unique_ptr<Group>> Group::make(Communicator&, Duration) {
  return Error{ErrorCode::unsupported, "Paceline was built without NCCL"};
}

}  // namespace paceline::cuda::nccl

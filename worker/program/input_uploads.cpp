#include "input_uploads.hpp"

#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstring>
#include <memory>

#include "paceline/base/assert.hpp"
#include "paceline/base/text.hpp"
#include "setup.hpp"

namespace paceline {
namespace {

/// A batch's companion.
struct Upload {
  torch::Tensor host;  // page-locked, until it has been read
  torch::Tensor device;
  std::optional<c10::Event> copied;
};

}  // namespace

InputUploads::InputUploads(const ComputeDevice& device) : device_(device.device) {
  if (!device_.is_cpu()) stream_ = transfer_streams(device_).up;
}

Status InputUploads::begin(SampleBatch& batch, std::vector<std::int64_t> shape) const {
  shape.insert(shape.begin(), batch.size());
  auto upload = std::make_shared<Upload>();
  try {
    if (stream_) {
      upload->host = torch::empty(shape, torch::TensorOptions(torch::kFloat).pinned_memory(true));
      std::memcpy(upload->host.data_ptr(), batch.values.data(), upload->host.nbytes());
      const c10::StreamGuard on_own_stream(*stream_);
      upload->device = upload->host.to(device_, /*non_blocking=*/true);
      upload->copied.emplace(device_.type());
      upload->copied->record(*stream_);
    } else {
      upload->device = torch::from_blob(batch.values.data(), shape, torch::kFloat).clone();
    }
  } catch (const std::exception& exception) {
    const std::string why = concat("the samples cannot be copied to the GPU: ", words_of(exception));
    if (is_broken_device(exception.what())) leave_at_once(why);
    return Error{ErrorCode::io, why};
  }
  batch.values = {};
  batch.companion = std::move(upload);
  return {};
}

torch::Tensor InputUploads::take(const SampleBatch& batch) {
  PACELINE_ASSERT(batch.companion != nullptr, "the batch's upload was begun");
  const auto& upload = *static_cast<const Upload*>(batch.companion.get());
  if (upload.copied) {
    const torch::Device device = upload.device.device();
    const c10::Stream current = c10::impl::VirtualGuardImpl(device.type()).getStream(device);
    upload.copied->block(current);
    upload.device.record_stream(current);  // else its memory would be free for the next upload with the batch
  }
  return upload.device;
}

}  // namespace paceline

#include "device.hpp"

#include <unistd.h>

#include <cstring>

#include "../node_identity.hpp"
#include "paceline/base/hash.hpp"
#include "paceline/base/text.hpp"
#include "paceline/cuda.hpp"

namespace paceline::cuda {
namespace {

/// What to do about it, as the end of a sentence; empty where nothing is known to help.
std::string_view advice_for(cudaError_t code) {
  switch (code) {
    case cudaErrorInsufficientDriver:
      return ": install a newer NVIDIA driver, or build with an older CUDA toolkit";
    case cudaErrorNoDevice: return ": look at nvidia-smi and at CUDA_VISIBLE_DEVICES";
    case cudaErrorMemoryAllocation:
      return ": free memory of this GPU, or use smaller buckets or DeviceOptions::ipc_bytes";
    case cudaErrorDevicesUnavailable:
      return ": another process has it to itself, or its compute mode forbids it; look at nvidia-smi";
    case cudaErrorNoKernelImageForDevice:
      return ": build with this GPU's architecture in CMAKE_CUDA_ARCHITECTURES";
    default: break;
  }
  if (is_fatal(code))
    return ": this process can't use the GPU any more; look for Xid messages in dmesg, end the process, and "
           "take "
           "the GPU out of service if it happens again";
  return {};
}

ErrorCode kind_of(cudaError_t code) {
  switch (code) {
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
    case cudaErrorNoKernelImageForDevice: return ErrorCode::unsupported;
    case cudaErrorInvalidDevice: return ErrorCode::invalid_argument;
    default: return ErrorCode::io;
  }
}

void trouble(DeviceFacts& facts, const Error& error) {
  put(facts.trouble, error.message);
  facts.trouble_code = static_cast<std::int32_t>(error.code);
}

Status fill(DeviceFacts& facts, int device) {
  PACELINE_TRY(check(cudaDriverGetVersion(&facts.driver), "the NVIDIA driver does not tell its version"));
  const std::string objection = objection_to_driver(facts.driver, facts.toolkit);
  if (!objection.empty()) return Error{ErrorCode::unsupported, objection};
  int count = 0;
  PACELINE_TRY(check(cudaGetDeviceCount(&count), "the GPUs cannot be counted"));
  if (device < 0) PACELINE_TRY(check(cudaGetDevice(&device), "no GPU is current"));
  if (device >= count)
    return Error{ErrorCode::invalid_argument,
                 concat("GPU ", device, " was asked for, and this process sees ", count,
                        ": choose one below that, or look at CUDA_VISIBLE_DEVICES")};
  facts.device = device;
  cudaDeviceProp properties{};
  PACELINE_TRY(check(cudaGetDeviceProperties(&properties, device), "the GPU's properties cannot be read"));
  std::memcpy(facts.uuid, properties.uuid.bytes, sizeof facts.uuid);
  put(facts.name, properties.name);
  facts.compute_capability = properties.major * 10 + properties.minor;
  // Makes the context, which is where a GPU that fell off, or is taken, is noticed.
  const DeviceScope scope(device);
  PACELINE_TRY(scope.status());
  return check(cudaFree(nullptr), "the GPU cannot be used");
}

}  // namespace

bool is_fatal(cudaError_t code) noexcept {
  switch (code) {
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorIllegalAddress:
    case cudaErrorAssert:
    case cudaErrorContained:
    case cudaErrorExternalDevice:
    case cudaErrorUnknown: return true;
    default: return false;
  }
}

Error cuda_error(cudaError_t code, std::string_view what) {
  return {kind_of(code),
          concat(what, ": ", cudaGetErrorName(code), ", ", cudaGetErrorString(code), advice_for(code))};
}

Status check(cudaError_t code, std::string_view what) {
  if (code != cudaSuccess) return cuda_error(code, what);
  return {};
}

DeviceScope::DeviceScope(int device) {
  int now = -1;
  status_ = check(cudaGetDevice(&now), "no GPU is current");
  if (!status_.ok() || now == device) return;
  status_ = check(cudaSetDevice(device), "the GPU cannot be made current");
  if (status_.ok()) before_ = now;
}

DeviceScope::~DeviceScope() {
  if (before_ >= 0) [[maybe_unused]]
    const cudaError_t ignored = cudaSetDevice(before_);
}

DeviceFacts look_at_device(int device) {
  DeviceFacts facts;
  facts.toolkit = CUDART_VERSION;
  facts.process = ::getpid();
  for (const char c : host_identity().key) facts.host = mix64(facts.host, static_cast<unsigned char>(c));
  const Status status = fill(facts, device);
  if (!status.ok()) trouble(facts, status.error());
  return facts;
}

Result<int> device_count() {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaErrorNoDevice) return 0;
  if (code != cudaSuccess) return cuda_error(code, "the GPUs cannot be counted");
  return count;
}

}  // namespace paceline::cuda

#include "launch.cuh"

namespace paceline::cuda::kernels {

Result<int> resident_blocks(const void* kernel, unsigned threads, ResidentBlocks& known) {
  int device = 0;
  PACELINE_TRY(check(cudaGetDevice(&device), "the current GPU"));
  const auto place = static_cast<std::size_t>(device);
  if (place < known.size())
    if (const int blocks = known[place].load(std::memory_order_relaxed); blocks > 0) return blocks;
  int processors = 0;
  PACELINE_TRY(check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
                     "the GPU's multiprocessors cannot be counted"));
  int each = 0;
  PACELINE_TRY(
      check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, static_cast<int>(threads), 0),
            "a kernel's occupancy"));
  if (each < 1) return Error(ErrorCode::unsupported, "a kernel does not fit on this GPU's multiprocessors");
  if (place < known.size()) known[place].store(processors * each, std::memory_order_relaxed);
  return processors * each;
}

Status start(const void* kernel, dim3 blocks, unsigned threads, void** arguments, cudaStream_t stream,
             std::string_view what) {
  return check(cudaLaunchKernel(kernel, blocks, dim3(threads), arguments, 0, stream), what);
}

Error invalid(std::string_view what) {
  return {ErrorCode::invalid_argument, std::string(what)};
}

Status check_pointer(const void* pointer, std::size_t bytes, std::string_view name) {
  if (pointer == nullptr) return invalid(concat(name, " is a null pointer"));
  if (reinterpret_cast<std::uintptr_t>(pointer) % bytes != 0)
    return invalid(concat(name, " is not aligned to its elements of ", bytes, " bytes"));
  return {};
}

}  // namespace paceline::cuda::kernels

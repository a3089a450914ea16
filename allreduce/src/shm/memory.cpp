#include "memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "paceline/base/text.hpp"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace paceline::shm {
namespace {

Result<std::byte*> map_descriptor(int descriptor, std::size_t bytes) {
  void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (at == MAP_FAILED) return system_error(concat("cannot map ", human_bytes(bytes), " of shared memory"));
  // Best effort: without huge pages it is the same memory, a little slower.
  [[maybe_unused]] const int ignored = ::madvise(at, bytes, MADV_HUGEPAGE);
  return static_cast<std::byte*>(at);
}

}  // namespace

Memory::Memory(Memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {
}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Memory::~Memory() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

Result<Memory> Memory::create(std::size_t bytes, UniqueFd& descriptor) {
  descriptor.reset(::memfd_create("paceline", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!descriptor.valid()) return system_error("cannot make shared memory");
  if (::ftruncate(descriptor.get(), static_cast<off_t>(bytes)) != 0)
    return system_error(concat("cannot make ", human_bytes(bytes), " of shared memory"));
  if (::fcntl(descriptor.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return system_error("cannot seal shared memory");
  Memory memory;
  PACELINE_ASSIGN(memory.data_, map_descriptor(descriptor.get(), bytes));
  memory.bytes_ = bytes;
  return memory;
}

Status Memory::make_present(std::size_t bytes) {
  if (::madvise(data_, bytes, MADV_POPULATE_WRITE) == 0) return {};
  if (errno != EINVAL) return system_error(concat("cannot get ", human_bytes(bytes), " of shared memory"));
  // Before Linux 5.14: by hand. What is there already keeps its content.
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  for (std::size_t at = 0; at < bytes; at += page)
    __atomic_fetch_or(reinterpret_cast<unsigned char*>(data_ + at), 0, __ATOMIC_RELAXED);
  return {};
}

Result<Memory> Memory::map(const UniqueFd& descriptor, std::size_t bytes) {
  struct stat facts {};
  if (::fstat(descriptor.get(), &facts) != 0) return system_error("cannot look at a peer's shared memory");
  const int seals = ::fcntl(descriptor.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || static_cast<std::size_t>(facts.st_size) != bytes)
    return Error{ErrorCode::corrupt, "a peer offered memory that is not what it said"};
  Memory memory;
  PACELINE_ASSIGN(memory.data_, map_descriptor(descriptor.get(), bytes));
  memory.bytes_ = bytes;
  return memory;
}

}  // namespace paceline::shm

#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline {

/// Bytes under a path, for what reads files.
class MemoryFile {
 public:
  MemoryFile(const unsigned char* data, unsigned long size) : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    if (::write(fd_.get(), data, size) != static_cast<ssize_t>(size)) std::abort();
  }
  [[nodiscard]] std::string path() const { return concat("/proc/self/fd/", fd_.get()); }

 private:
  UniqueFd fd_;
};

}  // namespace paceline

#pragma once

#include <hdf5.h>

#include <cstdint>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "paceline/base/result.hpp"

// What every use of the HDF5 library begins with. Included only by the files named hdf5_*.

namespace paceline::hdf5 {

/// Every use of the library: one at a time, since it may be built without thread safety and has one global
/// lock even with it; and without its own error printing.
class Session {
 public:
  Session();
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

 private:
  std::lock_guard<std::mutex> lock_;
  H5E_auto2_t print_ = nullptr;
  void* print_data_ = nullptr;
};

/// Owns one HDF5 identifier.
class Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Handle() = default;
  Handle(hid_t id, Close how) : id_(id), close_(how) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  ~Handle() {
    if (valid()) close_(id_);
  }
  [[nodiscard]] hid_t get() const noexcept { return id_; }
  [[nodiscard]] bool valid() const noexcept { return id_ >= 0; }
  /// Closing writes what is still in memory, so it can fail like a write.
  [[nodiscard]] bool close() noexcept { return close_(std::exchange(id_, H5I_INVALID_HID)) >= 0; }

 private:
  hid_t id_ = H5I_INVALID_HID;
  Close close_ = nullptr;
};

/// An io error with the library's deepest reason. To be called at once after the call that failed: the next
/// call clears the library's error stack.
[[nodiscard]] Error failure(std::string_view what);

[[nodiscard]] std::vector<hsize_t> dimensions(std::int64_t first, const std::vector<std::int64_t>& rest);

/// No lock files and no flock: distributed filesystems are often mounted without them.
[[nodiscard]] Handle access_properties();

}  // namespace paceline::hdf5

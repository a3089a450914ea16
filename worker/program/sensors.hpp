#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "paceline/base/fd.hpp"
#include "paceline/job/telemetry.hpp"

namespace paceline {

/// Where the kernel's files are; tests put their own there.
struct SensorRoots {
  std::string proc = "/proc";
  std::string powercap = "/sys/class/powercap";
};

/// What the kernel says of this process and its node. What can't be read, or is nonsense, stays as it was;
/// sums never shrink, and go on where theirs begin anew. One thread.
class Sensors {
 public:
  explicit Sensors(SensorRoots roots = {});

  /// Fills in the members of the process and the node but for `wire_...`.
  void read(Telemetry& telemetry);

 private:
  /// Opened once it is there, and read again and again.
  class File {
   public:
    explicit File(std::string path) : path_(std::move(path)) {}
    /// Its text, in `text`; false where it can't be read.
    [[nodiscard]] bool read(std::string& text);
    [[nodiscard]] std::int64_t bytes_read() const { return bytes_read_; }

   private:
    std::string path_;
    UniqueFd fd_;
    std::int64_t bytes_read_ = 0;
  };
  /// A counter of the kernel that may begin anew.
  struct Counter {
    std::int64_t last = 0;
    std::int64_t sum = 0;
    void see(std::int64_t value);
  };
  struct Interface {
    Counter sent, received;
  };
  /// A part of the machine that counts its energy in microjoules, from 0 again at `range` (0: not known).
  struct Zone {
    File file;
    std::int64_t range = 0;
    std::int64_t last = -1;
    std::int64_t sum = 0;
  };

  void find_zones(const std::string& folder);
  void read_memory(Telemetry& telemetry);
  void read_bytes_read(Telemetry& telemetry);
  void read_network(Telemetry& telemetry);
  void read_energy(Telemetry& telemetry);
  [[nodiscard]] std::int64_t own_bytes() const;

  File statm_, io_, net_dev_;
  std::vector<Zone> zones_;
  Counter read_;
  std::map<std::string, Interface, std::less<>> interfaces_;
  std::string text_;  // of the file in hand
};

}  // namespace paceline

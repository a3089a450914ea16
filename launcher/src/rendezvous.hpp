#pragma once

#include <cstdint>
#include <string>

#include "paceline/base/clock.hpp"
#include "paceline/base/result.hpp"
#include "where/place.hpp"

namespace paceline {

/// What task 0 of a launch tells the others, or why there is nothing to start.
struct Rendezvous {
  std::string error{};  ///< not empty: task 0 gave up, has said so, and the others leave with `exit_code`
  int exit_code = 0;
  std::string action{};   ///< train, eval
  std::string run_dir{};  ///< its job.json has the resolved job
  std::string node{};     ///< of rank 0
  std::string host{};     ///< where rank 0 listens
  std::uint16_t port = 0;
  std::string secret{};
};

/// The file through which a launch's tasks meet, in a folder that all of them see.
[[nodiscard]] std::string rendezvous_path(const std::string& folder, const Place& place);

/// Task 0's side: the file is there from `publish` to the end of this object's life, readable by its owner
/// alone, because it holds the job's secret.
class PublishedRendezvous {
 public:
  explicit PublishedRendezvous(std::string path);
  ~PublishedRendezvous();
  PublishedRendezvous(const PublishedRendezvous&) = delete;
  PublishedRendezvous& operator=(const PublishedRendezvous&) = delete;

  [[nodiscard]] Status publish(const Rendezvous& rendezvous);

 private:
  std::string path_;
  bool made_folder_ = false;
};

/// The others' side: reads the file as soon as it is there; timeout, with what was waited for, after `limit`.
[[nodiscard]] Result<Rendezvous> await_rendezvous(const std::string& path, const Clock& clock,
                                                  Duration limit);

/// 128 random bits in hexadecimal.
[[nodiscard]] Result<std::string> random_secret();

}  // namespace paceline

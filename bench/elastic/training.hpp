#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "elastic/figures.hpp"
#include "elastic/options.hpp"
#include "elastic/stage.hpp"

namespace paceline::bench {

/// Makes the images that all jobs train on, and gives the dataset's folder.
[[nodiscard]] Result<std::string> make_images(Stage& stage, const ElasticOptions& options);

/// What is in the files of a folder whose names end so, one after the other by the numbers in their names.
[[nodiscard]] Result<std::string> texts_in(const std::string& folder, const std::string& extension);

/// What a running job says of itself.
struct Standing {
  std::int64_t generation = 0;
  pid_t coordinator = -1;
  std::vector<pid_t> ranks;  ///< those that train, by rank
};

/// A job that trains in the background until it is ended.
class BackgroundTraining {
 public:
  struct Settings {
    std::int64_t checkpoint_steps = -1;  ///< none
    std::int64_t quiet_steps = 0;        ///< runs of so many are alternately told of and not; 0: all are
    bool rebalance = false;
    std::int64_t grain = 0;  ///< 0: the job's default
  };

  /// Returns once it trains with all of its ranks.
  [[nodiscard]] static Result<BackgroundTraining> start(Stage& stage, const ElasticOptions& options,
                                                        const std::string& dataset, const Settings& settings);
  /// What was left of it goes with the stage. Its files are still there.
  [[nodiscard]] Status end();

  [[nodiscard]] const std::string& folder() const noexcept { return folder_; }
  [[nodiscard]] Result<Standing> standing();
  /// Until so many more steps are written down.
  [[nodiscard]] Status await_steps(std::int64_t more);
  /// Until so many train, in a generation after that one; gives its number.
  [[nodiscard]] Result<std::int64_t> await_ranks(std::int64_t ranks, std::int64_t after_generation);

  [[nodiscard]] Result<Commits> commits() const;
  [[nodiscard]] Result<std::map<std::int64_t, Beginning>> beginnings() const;
  /// Of all terms, one after the other.
  [[nodiscard]] Result<std::string> journal() const;

 private:
  BackgroundTraining(Stage& stage, std::string folder) : stage_(&stage), folder_(std::move(folder)) {}
  [[nodiscard]] Status check() const;
  [[nodiscard]] std::int64_t steps_written() const;

  Stage* stage_;  // outlives it
  std::string folder_;
  Process process_;
};

}  // namespace paceline::bench

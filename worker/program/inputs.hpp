#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "input_uploads.hpp"
#include "paceline/data/dataset.hpp"
#include "paceline/data/loader.hpp"
#include "paceline/data/transform.hpp"
#include "paceline/job/job.hpp"
#include "paceline/train/model.hpp"
#include "weights.hpp"

namespace paceline {

/// How a dataset is opened for a job: of text, how many tokens a sample has (`model.context`).
[[nodiscard]] DatasetOptions dataset_options(const Job& job);

/// What a model of `job` takes in, trained on this dataset. invalid_argument: the dataset is not of the job's
/// task, or its samples cannot be cut as `augment` says.
[[nodiscard]] Result<InputSpec> input_of(const DatasetInfo& info, const Job& job);

/// Makes inputs of a model from what a loader delivers: images are decoded, cut, mirrored and normalised on
/// the loader's threads, text is widened when its tensors are made. Const members may be called from any
/// thread.
class InputMaker {
 public:
  /// For training: cuts and mirrors as `augment` says, seeded by (seed, epoch, position), and hashes what it
  /// was given with the run's `consumed_key`.
  [[nodiscard]] static Result<InputMaker> for_training(const DatasetInfo& samples, const InputSpec& input,
                                                       const Job& job, std::uint64_t consumed_key);
  /// For evaluation: the centre of every image. invalid_argument: the samples are not of the kind that
  /// `input` is.
  [[nodiscard]] static Result<InputMaker> for_evaluation(const DatasetInfo& samples, const InputSpec& input);

  /// From now on images are taken to this device as soon as they are made.
  void compute_on(const ComputeDevice& device) {
    if (device.apart) uploads_.emplace(device);
  }

  /// What the loader calls: makes the values of images, and fills batch.consumed.
  [[nodiscard]] Status finish(SampleBatch& batch) const;
  /// Samples [begin, begin + count) of a finished batch, in whose memory the inputs may lie. corrupt: a token
  /// that is not in the vocabulary.
  [[nodiscard]] Result<Batch> tensors(SampleBatch& batch, std::int64_t begin, std::int64_t count) const;

 private:
  struct Random {
    std::uint64_t seed;
    std::uint64_t consumed_key;
  };
  InputMaker(const DatasetInfo& samples, const InputSpec& input, std::optional<Random> random);
  [[nodiscard]] static Result<InputMaker> make(const DatasetInfo& samples, const InputSpec& input,
                                               std::int64_t padding, bool flip, std::optional<Random> random);
  [[nodiscard]] Status make_image(std::span<const std::byte> stored, std::uint64_t seed, float* out) const;

  std::string path_;                 // of the dataset, for messages
  std::vector<std::int64_t> shape_;  // of one input
  std::string dtype_;
  std::int64_t vocabulary_ = 0;   // 0: images
  std::optional<Random> random_;  // nothing: evaluation
  std::optional<ImageTransform> transform_;
  std::optional<InputUploads> uploads_;  // nothing: the model computes in the host's memory
  bool is_jpeg_ = false;
  std::int64_t rows_ = 0, columns_ = 0, channels_ = 0;  // of stored images
};

/// Windows of text, each of context + 1 tokens of type `dtype` (u8, u16, i32; of the machine's byte order,
/// alignment does not matter), of which the first `context` are the inputs and the last `context` the
/// targets. corrupt: an id that is not below the vocabulary, named with its place.
[[nodiscard]] Result<Batch> token_batch(std::span<const std::span<const std::byte>> windows,
                                        std::string_view dtype, std::int64_t context,
                                        std::int64_t vocabulary);

}  // namespace paceline

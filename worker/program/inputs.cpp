#include "inputs.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "paceline/base/assert.hpp"
#include "paceline/base/hash.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/consumed.hpp"
#include "paceline/data/image.hpp"

namespace paceline {
namespace {

constexpr std::uint64_t augmentation = 3;  // the stream of random numbers, beside the order's

/// Inputs and targets of windows of tokens, or the first id that is not in the vocabulary.
template <class Token>
Status widen(std::span<const std::span<const std::byte>> windows, const Batch& batch,
             std::int64_t vocabulary) {
  auto* inputs = batch.inputs.data_ptr<std::int64_t>();
  auto* targets = batch.targets.data_ptr<std::int64_t>();
  std::vector<Token> window(static_cast<std::size_t>(batch.inputs.size(1)) + 1);
  const auto is_wrong = [&](std::int64_t id) { return id < 0 || id >= vocabulary; };
  for (std::size_t sample = 0; sample < windows.size(); ++sample) {
    PACELINE_ASSERT(windows[sample].size() == window.size() * sizeof(Token),
                    "a window and the token after it");
    std::memcpy(window.data(), windows[sample].data(), windows[sample].size());
    const auto wrong = std::ranges::find_if(window, is_wrong);
    if (wrong != window.end())
      return Error{ErrorCode::corrupt,
                   concat("token ", wrong - window.begin(), " of sample ", sample, " of the batch is ",
                          std::int64_t{*wrong}, ", and the vocabulary has ", vocabulary,
                          " ids: the dataset does not fit its manifest")};
    inputs = std::copy(window.begin(), window.end() - 1, inputs);
    targets = std::copy(window.begin() + 1, window.end(), targets);
  }
  return {};
}

/// Stored images as channels, rows and columns. What is no image of two dimensions is one row.
struct ImageShape {
  std::int64_t channels = 1, rows = 1, columns = 1;
  bool two_dimensional = false;

  explicit ImageShape(const DatasetInfo& info) {
    const auto& shape = info.sample_shape;
    two_dimensional = shape.size() == 3;
    const bool interleaved = info.layout == "hwc";
    if (two_dimensional) {
      channels = interleaved ? shape[2] : shape[0];
      rows = interleaved ? shape[0] : shape[1];
      columns = interleaved ? shape[1] : shape[2];
    } else {
      columns = std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
    }
  }
};

Error wrong_task(const DatasetInfo& info, std::string_view task) {
  return {ErrorCode::invalid_argument, concat("the job's task is ", task, ", and ", info.path,
                                              " was made for ", info.task, ": change task or data.train")};
}

}  // namespace

DatasetOptions dataset_options(const Job& job) {
  return {.window = tokens_per_sample(job)};
}

Result<InputSpec> input_of(const DatasetInfo& info, const Job& job) {
  InputSpec input;
  if (info.task != job.task) return wrong_task(info, job.task);
  if (info.kind == SampleKind::tokens) {
    input.sample_shape = info.sample_shape;
    input.vocabulary = info.vocabulary;
    return input;
  }
  const ImageShape shape(info);
  input.sample_shape = info.sample_shape;
  if (shape.two_dimensional) {
    const std::int64_t crop = job.augment.crop;
    input.sample_shape = {shape.channels, crop > 0 ? crop : shape.rows, crop > 0 ? crop : shape.columns};
  } else if (job.augment.crop > 0 || job.augment.padding > 0 || job.augment.flip) {
    return Error{ErrorCode::invalid_argument,
                 concat("augment is for images of rows and columns, which those of ", info.path, " are not")};
  }
  input.classes = info.classes;
  input.mean = info.mean;
  input.standard_deviation = info.standard_deviation;
  return input;
}

InputMaker::InputMaker(const DatasetInfo& samples, const InputSpec& input, std::optional<Random> random)
    : path_(samples.path),
      shape_(input.sample_shape),
      dtype_(samples.dtype),
      vocabulary_(input.vocabulary),
      random_(random),
      is_jpeg_(samples.storage == "jpeg") {
}

Result<InputMaker> InputMaker::make(const DatasetInfo& samples, const InputSpec& input, std::int64_t padding,
                                    bool flip, std::optional<Random> random) {
  InputMaker maker(samples, input, random);
  if (input.vocabulary > 0) return maker;
  const ImageShape stored(samples);
  maker.rows_ = stored.rows;
  maker.columns_ = stored.columns;
  maker.channels_ = stored.channels;
  TransformSpec spec;
  spec.channels = stored.channels;
  spec.rows = stored.rows;
  spec.columns = stored.columns;
  spec.interleaved = samples.layout == "hwc" || maker.is_jpeg_;  // decoders give pixel after pixel
  if (stored.two_dimensional) {
    spec.crop_rows = input.sample_shape.at(1);
    spec.crop_columns = input.sample_shape.at(2);
  }
  spec.padding = padding;
  spec.flip = flip;
  spec.mean = input.mean;
  spec.standard_deviation = input.standard_deviation;
  PACELINE_ASSIGN(maker.transform_, ImageTransform::make(std::move(spec)));
  return maker;
}

Result<InputMaker> InputMaker::for_training(const DatasetInfo& samples, const InputSpec& input,
                                            const Job& job, std::uint64_t consumed_key) {
  const Random random{mix64(static_cast<std::uint64_t>(job.seed), augmentation), consumed_key};
  return make(samples, input, job.augment.padding, job.augment.flip, random);
}

Result<InputMaker> InputMaker::for_evaluation(const DatasetInfo& samples, const InputSpec& input) {
  const auto& wanted = input.sample_shape;
  const bool same_kind = (input.vocabulary > 0) == (samples.kind == SampleKind::tokens);
  bool fits = same_kind && samples.classes == input.classes && samples.vocabulary == input.vocabulary;
  if (fits && samples.kind == SampleKind::image && wanted.size() == 3) {
    const ImageShape stored(samples);
    fits = stored.channels == wanted[0] && stored.rows >= wanted[1] && stored.columns >= wanted[2];
  } else {
    fits = fits && samples.sample_shape == wanted;
  }
  if (!fits)
    return Error{ErrorCode::invalid_argument,
                 concat("data.eval is not made of the same kind of samples as data.train: ", samples.path)};
  return make(samples, input, 0, false, std::nullopt);
}

Status InputMaker::finish(SampleBatch& batch) const {
  const LoadRequest& request = batch.request();
  ConsumedHash consumed(random_ ? random_->consumed_key : 0);
  const std::int64_t size = transform_ ? transform_->output_values() : 0;
  batch.values.resize(static_cast<std::size_t>(batch.size() * size));
  for (std::int64_t i = 0; i < batch.size(); ++i) {
    const std::int64_t position = request.first + i;
    if (random_) consumed.add(request.epoch + 1, position, sample_checksum(batch.sample(i), batch.label(i)));
    if (!transform_) continue;
    const std::uint64_t seed = random_ ? mix64(random_->seed, request.epoch, position) : 0;
    const Status made = make_image(batch.sample(i), seed, batch.values.data() + i * size);
    if (!made.ok())
      return Error{made.error().code, concat(path_, ": the image at position ", position, " of epoch ",
                                             request.epoch + 1, " cannot be used: ", made.error().message)};
  }
  batch.consumed = consumed.value();
  return uploads_ && transform_ ? uploads_->begin(batch, shape_) : Status();
}

Status InputMaker::make_image(std::span<const std::byte> stored, std::uint64_t seed, float* out) const {
  thread_local std::vector<std::byte> decoded;  // of the loader's few threads
  if (is_jpeg_) {
    decoded.resize(static_cast<std::size_t>(rows_ * columns_ * channels_));
    PACELINE_TRY(decode_jpeg(stored, rows_, columns_, channels_, decoded.data()));
    stored = decoded;
  }
  if (random_)
    transform_->apply_random(stored, seed, out);
  else
    transform_->apply_centred(stored, out);
  return {};
}

Result<Batch> InputMaker::tensors(SampleBatch& batch, std::int64_t begin, std::int64_t count) const {
  if (vocabulary_ > 0) {
    std::vector<std::span<const std::byte>> windows;
    for (std::int64_t i = begin; i < begin + count; ++i) windows.push_back(batch.sample(i));
    return token_batch(windows, dtype_, shape_[0], vocabulary_);
  }
  Batch made{{}, torch::empty({count}, torch::kLong)};
  if (uploads_) {
    made.inputs = InputUploads::take(batch).narrow(0, begin, count);
  } else {
    std::vector<std::int64_t> shape = shape_;
    shape.insert(shape.begin(), count);
    float* values = batch.values.data() + begin * transform_->output_values();
    made.inputs = torch::from_blob(values, shape, torch::kFloat);
  }
  auto* targets = made.targets.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < count; ++i) targets[i] = batch.label(begin + i);
  return made;
}

Result<Batch> token_batch(std::span<const std::span<const std::byte>> windows, std::string_view dtype,
                          std::int64_t context, std::int64_t vocabulary) {
  PACELINE_ASSERT(dtype == "u8" || dtype == "u16" || dtype == "i32", "a type that tokens can have");
  const auto count = static_cast<std::int64_t>(windows.size());
  Batch batch{torch::empty({count, context}, torch::kLong), torch::empty({count, context}, torch::kLong)};
  if (dtype == "u8")
    PACELINE_TRY(widen<std::uint8_t>(windows, batch, vocabulary));
  else if (dtype == "u16")
    PACELINE_TRY(widen<std::uint16_t>(windows, batch, vocabulary));
  else
    PACELINE_TRY(widen<std::int32_t>(windows, batch, vocabulary));
  return batch;
}

}  // namespace paceline

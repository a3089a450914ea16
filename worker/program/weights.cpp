#include "weights.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

using nlohmann::json;
using ordered_json = nlohmann::ordered_json;

constexpr std::size_t most_file_bytes = std::size_t{64} << 30;
constexpr std::uint64_t most_header_bytes = 100U << 20;  // the format's own limit

std::string safetensors_type(torch::ScalarType type) {
  switch (type) {
    case torch::kFloat: return "F32";
    case torch::kDouble: return "F64";
    case torch::kHalf: return "F16";
    case torch::kBFloat16: return "BF16";
    case torch::kLong: return "I64";
    case torch::kInt: return "I32";
    case torch::kShort: return "I16";
    case torch::kChar: return "I8";
    case torch::kByte: return "U8";
    case torch::kBool: return "BOOL";
    default: return {};
  }
}

std::string_view bytes_of(const torch::Tensor& dense) {
  return {static_cast<const char*>(dense.data_ptr()), dense.nbytes()};
}

/// Where a tensor's values lie in the data part; checked against what is there.
Result<std::string_view> find_values(const json& header, const NamedWeight& weight, std::string_view data) {
  const auto entry = header.find(weight.name);
  if (entry == header.end())
    return Error{ErrorCode::corrupt, concat("it has no tensor \"", weight.name, "\"")};
  try {
    if (entry->at("dtype").get<std::string>() != safetensors_type(weight.tensor.scalar_type()) ||
        entry->at("shape").get<std::vector<std::int64_t>>() != weight.tensor.sizes().vec())
      return Error{ErrorCode::mismatch,
                   concat("its tensor \"", weight.name, "\" has another type or shape than the model's")};
    const auto offsets = entry->at("data_offsets").get<std::vector<std::uint64_t>>();
    if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data.size() ||
        offsets[1] - offsets[0] != weight.tensor.nbytes())
      return Error{ErrorCode::corrupt, concat("its tensor \"", weight.name, "\" lies outside the file")};
    return data.substr(offsets[0], offsets[1] - offsets[0]);
  } catch (const json::exception&) {
    return Error{ErrorCode::corrupt, concat("its header's entry \"", weight.name, "\" is malformed")};
  }
}

/// A safetensors file in its two parts.
struct Parts {
  json header;
  std::string_view data;
};

Result<Parts> split_file(std::string_view file) {
  std::uint64_t header_bytes = 0;
  if (file.size() < sizeof header_bytes) return Error{ErrorCode::corrupt, "it is too short"};
  std::memcpy(&header_bytes, file.data(), sizeof header_bytes);
  file.remove_prefix(sizeof header_bytes);
  if (header_bytes > file.size() || header_bytes > most_header_bytes)
    return Error{ErrorCode::corrupt, "its header is longer than the file"};
  Parts parts{json::parse(file.substr(0, header_bytes), nullptr, /*allow_exceptions=*/false),
              file.substr(header_bytes)};
  if (!parts.header.is_object()) return Error{ErrorCode::corrupt, "its header is not JSON"};
  return parts;
}

Status load_from(std::string_view file, std::vector<NamedWeight>& weights) {
  PACELINE_ASSIGN(const Parts parts, split_file(file));
  const torch::NoGradGuard no_grad;
  for (NamedWeight& weight : weights) {
    PACELINE_ASSIGN(const std::string_view values, find_values(parts.header, weight, parts.data));
    const torch::Tensor dense = torch::empty_like(weight.tensor, torch::MemoryFormat::Contiguous);
    if (!values.empty()) std::memcpy(dense.data_ptr(), values.data(), values.size());
    weight.tensor.copy_(dense);
  }
  return {};
}

/// Whether inputs can be made by this; what is asserted elsewhere is bytes from outside here.
bool is_possible(const InputSpec& input) {
  const std::vector<std::int64_t>& shape = input.sample_shape;
  if (shape.empty() || std::ranges::any_of(shape, [](std::int64_t extent) { return extent < 1; }))
    return false;
  if (input.vocabulary != 0) return input.vocabulary > 0 && shape.size() == 1;
  const std::size_t channels = shape.size() > 1 ? static_cast<std::size_t>(shape[0]) : 1;
  return (input.mean.size() == 1 || input.mean.size() == channels) &&
         input.standard_deviation.size() == input.mean.size() &&
         std::ranges::all_of(input.standard_deviation, [](double deviation) { return deviation > 0; });
}

Result<InputSpec> input_spec_from(std::string_view file) {
  PACELINE_ASSIGN(const Parts parts, split_file(file));
  try {
    const json& text = parts.header.at("__metadata__");
    const json values = json::parse(text.at("paceline").get<std::string>());
    InputSpec input;
    input.sample_shape = values.at("sample_shape").get<std::vector<std::int64_t>>();
    input.classes = values.at("classes").get<std::int64_t>();
    input.mean = values.at("mean").get<std::vector<double>>();
    input.standard_deviation = values.at("standard_deviation").get<std::vector<double>>();
    input.vocabulary = values.at("vocabulary").get<std::int64_t>();
    if (!is_possible(input))
      return Error{ErrorCode::corrupt, "what it says its model takes in cannot be: it is damaged"};
    return input;
  } catch (const json::exception&) {
    return Error{ErrorCode::corrupt,
                 "it does not say what its model takes in: it was not written by Paceline"};
  }
}

}  // namespace

std::vector<NamedWeight> weights_of(torch::nn::Module& module) {
  std::vector<NamedWeight> weights;
  const auto add = [&weights](const std::string& name, const torch::Tensor& tensor) {
    weights.push_back({name, tensor.detach().to(torch::kCPU)});
  };
  for (const auto& item : module.named_parameters()) add(item.key(), item.value());
  for (const auto& item : module.named_buffers()) add(item.key(), item.value());
  return weights;
}

std::string weights_sha256(const std::vector<NamedWeight>& weights) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&::EVP_MD_CTX_free)> context(::EVP_MD_CTX_new(),
                                                                          &::EVP_MD_CTX_free);
  ::EVP_DigestInit_ex(context.get(), ::EVP_sha256(), nullptr);
  const auto add = [&](std::string_view bytes) {
    ::EVP_DigestUpdate(context.get(), bytes.data(), bytes.size());
  };
  for (const NamedWeight& weight : weights) {
    add(concat(weight.name, " ", weight.tensor.sizes(), "\n"));
    add(bytes_of(weight.tensor.contiguous()));
  }
  std::byte digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  ::EVP_DigestFinal_ex(context.get(), reinterpret_cast<unsigned char*>(digest), &length);
  return to_hex({digest, length});
}

Status save_safetensors(const std::string& path, const std::vector<NamedWeight>& weights,
                        const InputSpec& input) {
  const ordered_json spec = {{"sample_shape", input.sample_shape},
                             {"classes", input.classes},
                             {"mean", input.mean},
                             {"standard_deviation", input.standard_deviation},
                             {"vocabulary", input.vocabulary}};
  ordered_json header = ordered_json::object();
  header["__metadata__"] = {{"paceline", spec.dump()}};  // the format allows strings only
  std::string data;
  for (const NamedWeight& weight : weights) {
    const std::string type = safetensors_type(weight.tensor.scalar_type());
    if (type.empty())
      return Error{ErrorCode::unsupported,
                   concat("cannot save ", weight.name, " of type ", weight.tensor.toString())};
    const std::size_t begin = data.size();
    const torch::Tensor dense = weight.tensor.contiguous();
    data += bytes_of(dense);
    header[weight.name] = {
        {"dtype", type}, {"shape", weight.tensor.sizes().vec()}, {"data_offsets", {begin, data.size()}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the values are aligned
  const std::uint64_t length = text.size();
  std::string file(sizeof length, '\0');
  std::memcpy(file.data(), &length, sizeof length);
  return write_file_atomically(path, file + text + data);
}

Status load_safetensors(const std::string& path, std::vector<NamedWeight>& weights) {
  PACELINE_ASSIGN(const std::string file, read_file(path, most_file_bytes));
  const Status loaded = load_from(file, weights);
  if (!loaded.ok()) return loaded.error().with_context(path);
  return {};
}

Result<InputSpec> load_input_spec(const std::string& path) {
  PACELINE_ASSIGN(const std::string file, read_file(path, most_file_bytes));
  auto input = input_spec_from(file);
  if (!input.ok()) return input.error().with_context(path);
  return input;
}

}  // namespace paceline

#include "paceline/job/protocol.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "job_json.hpp"
#include "message_fields.hpp"
#include "paceline/base/text.hpp"
#include "protocol_limits.hpp"

namespace paceline {
namespace {

using ChoiceList = std::initializer_list<std::string_view>;

class Writer {
 public:
  explicit Writer(Json& json) : json_(json) {}

  template <class Integer>
  void integer(const char* key, const Integer& value, std::int64_t, std::int64_t) {
    json_[key] = value;
  }
  void integers(const char* key, const std::vector<std::int64_t>& values, std::int64_t, std::int64_t) {
    json_[key] = values;
  }
  void choice(const char* key, const std::string& value, ChoiceList) { json_[key] = value; }
  void field(const char* key, const std::string& value) { json_[key] = value; }
  void field(const char* key, const bool& value) { json_[key] = value; }
  void field(const char* key, const Job& job) { json_[key] = job_to_value(job); }
  void field(const char* key, const double& value) {
    // JSON has no numbers for these, and a loss that has become one must be told.
    if (std::isfinite(value))
      json_[key] = value;
    else
      json_[key] = std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  }
  void field(const char* key, const std::optional<double>& value) {
    if (value)
      field(key, *value);
    else
      json_[key] = nullptr;
  }
  template <class Part>
  void objects(const char* key, const std::vector<Part>& parts) {
    json_[key] = Json::array();
    for (const Part& part : parts) json_[key].push_back(object(part));
  }
  void field(const char* key, const std::optional<EvalMessage>& eval) {
    json_[key] = eval ? object(*eval) : Json(nullptr);
  }
  void field(const char* key, const Percentiles& percentiles) { json_[key] = object(percentiles); }
  void field(const char* key, const Telemetry& telemetry) { json_[key] = object(telemetry); }

 private:
  template <class Part>
  static Json object(const Part& part) {
    Json json = Json::object();
    Writer writer(json);
    MessageFields<Part>::walk(writer, part);
    return json;
  }

  Json& json_;
};

/// Reads fields until the first one that isn't what it should be. Every key must be there, and no other.
class Reader {
 public:
  Reader(const Json& json, std::string name) : json_(json), name_(std::move(name)) {}

  void integer(const char* key, std::int64_t& value, std::int64_t least, std::int64_t greatest) {
    const Json* json = find(key);
    if (json == nullptr) return;
    if (!is_within(*json, least, greatest))
      return fail(concat("\"", key, "\" is no whole number from ", least, " to ", greatest));
    value = json->get<std::int64_t>();
  }
  void integer(const char* key, std::uint16_t& value, std::int64_t least, std::int64_t greatest) {
    std::int64_t wide = 0;
    integer(key, wide, least, greatest);
    value = static_cast<std::uint16_t>(wide);
  }
  void integers(const char* key, std::vector<std::int64_t>& values, std::int64_t least,
                std::int64_t greatest) {
    const Json* json = find(key);
    if (json == nullptr) return;
    const auto fits = [&](const Json& one) { return is_within(one, least, greatest); };
    if (!json->is_array() || !std::ranges::all_of(*json, fits))
      return fail(concat("\"", key, "\" is no list of whole numbers from ", least, " to ", greatest));
    values = json->get<std::vector<std::int64_t>>();
  }
  void choice(const char* key, std::string& value, ChoiceList choices) {
    field(key, value);
    if (status_.ok() && std::ranges::find(choices, value) == choices.end())
      fail(concat("\"", key, "\" is none of those it can be"));
  }
  void field(const char* key, std::string& value) {
    const Json* json = find(key);
    if (json == nullptr) return;
    if (!json->is_string()) return fail(concat("\"", key, "\" is no text"));
    value = json->get<std::string>();
  }
  void field(const char* key, bool& value) {
    const Json* json = find(key);
    if (json == nullptr) return;
    if (!json->is_boolean()) return fail(concat("\"", key, "\" is neither true nor false"));
    value = json->get<bool>();
  }
  void field(const char* key, double& value) {
    const Json* json = find(key);
    if (json == nullptr) return;
    if (json->is_number())
      value = json->get<double>();
    else if (*json == "nan")
      value = std::numeric_limits<double>::quiet_NaN();
    else if (*json == "inf" || *json == "-inf")
      value =
          *json == "inf" ? std::numeric_limits<double>::infinity() : -std::numeric_limits<double>::infinity();
    else
      fail(concat("\"", key, "\" is no number"));
  }
  void field(const char* key, std::optional<double>& value) {
    value.reset();
    const auto found = json_.find(key);
    if (found == json_.end() || !found->is_null())
      field(key, value.emplace());
    else
      static_cast<void>(find(key));
  }
  void field(const char* key, Job& job) {
    const Json* json = find(key);
    if (json == nullptr) return;
    Result<Job> read = job_from_value(*json, concat(name_, ".", key));
    if (read.ok())
      job = std::move(read).value();
    else
      status_ = read.error();
  }
  template <class Part>
  void objects(const char* key, std::vector<Part>& parts) {
    const Json* json = find(key);
    if (json == nullptr) return;
    if (!json->is_array()) return fail(concat("\"", key, "\" is no list"));
    parts.resize(json->size());
    for (std::size_t i = 0; i < parts.size() && status_.ok(); ++i)
      object((*json)[i], concat(name_, ".", key, "[", i, "]"), parts[i]);
  }
  void field(const char* key, std::optional<EvalMessage>& eval) {
    const Json* json = find(key);
    if (json == nullptr) return;
    eval.reset();
    if (!json->is_null()) object(*json, concat(name_, ".", key), eval.emplace());
  }
  void field(const char* key, Percentiles& percentiles) {
    if (const Json* json = find(key)) object(*json, concat(name_, ".", key), percentiles);
  }
  void field(const char* key, Telemetry& telemetry) {
    if (const Json* json = find(key)) object(*json, concat(name_, ".", key), telemetry);
  }

  /// The first thing that was wrong, or a key that nobody asked for.
  [[nodiscard]] Status finish() {
    if (status_.ok() && json_.size() != keys_)
      fail("a key is not one of its own; are the programs of the same build?");
    return status_;
  }

 private:
  const Json* find(const char* key) {
    if (!status_.ok()) return nullptr;
    ++keys_;
    const auto found = json_.find(key);
    if (found != json_.end()) return &*found;
    fail(concat("\"", key, "\" is missing"));
    return nullptr;
  }
  static bool is_within(const Json& json, std::int64_t least, std::int64_t greatest) {
    if (!json.is_number_integer()) return false;
    if (json.is_number_unsigned() && json.get<std::uint64_t>() > std::uint64_t{most_integer}) return false;
    return json.get<std::int64_t>() >= least && json.get<std::int64_t>() <= greatest;
  }
  template <class Part>
  void object(const Json& json, std::string name, Part& part) {
    if (!json.is_object()) return fail(concat(name, " is no object"));
    Reader reader(json, std::move(name));
    MessageFields<Part>::walk(reader, part);
    status_ = reader.finish();
  }
  void fail(const std::string& what) { status_ = Error{ErrorCode::corrupt, concat(name_, ": ", what)}; }

  const Json& json_;
  std::string name_;
  std::size_t keys_ = 0;
  Status status_;
};

/// The two first messages carry the version, so that programs of different builds part at once.
template <class Message>
constexpr bool carries_version =
    std::is_same_v<Message, StartMessage> || std::is_same_v<Message, HelloMessage>;

Error corrupt(const std::string& what) {
  return {ErrorCode::corrupt, concat("a worker message ", what, ": are the programs of the same build?")};
}

template <class Message>
Status check_version(const Json& json) {
  if constexpr (carries_version<Message>) {
    const auto found = json.find("protocol");
    if (found == json.end() || !found->is_number_integer()) return corrupt("names no protocol version");
    if (*found != worker_protocol_version)
      return Error{ErrorCode::mismatch,
                   concat("the other side speaks worker protocol ", found->dump(), " and this one ",
                          worker_protocol_version, ": use paceline and paceline-worker of the same build")};
  }
  return {};
}

Status check_form(const FormMessage& form) {
  const auto ranks = static_cast<std::int64_t>(form.members.size());
  const bool leaves = form.background && form.rank == -1;
  if (!leaves && (form.rank < 0 || form.rank >= ranks))
    return corrupt(concat("forms rank ", form.rank, " of ", ranks));
  if (form.donors > ranks) return corrupt(concat("names ", form.donors, " donors of ", ranks, " ranks"));
  return {};
}

template <class Message>
Result<WorkerMessage> read_as(const Json& json) {
  PACELINE_TRY(check_version<Message>(json));
  Message message;
  Reader reader(json, concat("worker message \"", MessageFields<Message>::type, "\""));
  std::string type;
  reader.field("type", type);
  std::int64_t version = 0;
  if constexpr (carries_version<Message>) reader.integer("protocol", version, 0, most_integer);
  MessageFields<Message>::walk(reader, message);
  PACELINE_TRY(reader.finish());
  if constexpr (std::is_same_v<Message, FormMessage>) PACELINE_TRY(check_form(message));
  return WorkerMessage(std::move(message));
}

template <std::size_t... Index>
Result<WorkerMessage> read_any(std::string_view type, const Json& json, std::index_sequence<Index...>) {
  std::optional<Result<WorkerMessage>> read;
  ((type == MessageFields<std::variant_alternative_t<Index, WorkerMessage>>::type
        ? void(read = read_as<std::variant_alternative_t<Index, WorkerMessage>>(json))
        : void()),
   ...);
  if (!read) return corrupt("is of a type that this program doesn't know");
  return std::move(*read);
}

}  // namespace

std::string encode(const WorkerMessage& message) {
  Json json = Json::object();
  std::visit(
      [&]<class Message>(const Message& m) {
        json["type"] = MessageFields<Message>::type;
        if constexpr (carries_version<Message>) json["protocol"] = worker_protocol_version;
        Writer writer(json);
        MessageFields<Message>::walk(writer, m);
      },
      message);
  return dump_json(json, -1);
}

Result<WorkerMessage> decode(std::string_view bytes) {
  if (bytes.size() > most_message_bytes) return corrupt(concat("has ", bytes.size(), " bytes"));
  PACELINE_ASSIGN(const Json json, parse_json(bytes, "worker message"));
  if (!json.is_object()) return corrupt("is no JSON object");
  const auto type = json.find("type");
  if (type == json.end() || !type->is_string()) return corrupt("has no type");
  return read_any(type->get_ref<const std::string&>(), json,
                  std::make_index_sequence<std::variant_size_v<WorkerMessage>>());
}

}  // namespace paceline

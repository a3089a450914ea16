#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "paceline/base/text.hpp"
#include "paceline/job/journal.hpp"

// A journal is read line by line. Nothing after the header is believed to be well-formed: a line is checked
// whole before any of it is kept, and one that is wrong becomes a fault with its number.

namespace paceline {
namespace {

using Json = nlohmann::json;

constexpr std::size_t most_line_bytes = std::size_t{1} << 20;
constexpr std::size_t most_faults = 20;
constexpr std::size_t most_names = 100;
constexpr int most_levels = 8;
// Sums and products of a few of them stay far inside 64 bits, and JSON readers elsewhere hold them exactly.
constexpr std::int64_t most_number = std::int64_t{1} << 53;

/// JSON of an object with a type, or what is wrong with it.
struct Line {
  Json json;
  std::string complaint;
};

Line parse_line(std::string_view text) {
  // The depth is bounded: the parser is recursive in its destructors.
  const auto shallow = [](int depth, Json::parse_event_t, Json&) {
    if (depth > most_levels) throw std::length_error("nested too deep");
    return true;
  };
  try {
    Json json = Json::parse(text, shallow);
    if (!json.is_object()) return {{}, "it is no JSON object"};
    const auto type = json.find("type");
    if (type == json.end() || !type->is_string()) return {{}, "it has no \"type\""};
    return {std::move(json), ""};
  } catch (const std::exception&) {  // the parser's words quote the bytes, whatever they are
    return {{}, "it is not JSON"};
  }
}

/// Fit to be shown on a terminal.
bool is_plain(std::string_view text) {
  return std::ranges::none_of(text, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; });
}

bool fits_64_bits(const Json& value) {
  if (value.is_number_unsigned()) return std::in_range<std::int64_t>(value.get<std::uint64_t>());
  return value.is_number_integer();
}

/// Takes members out of one line; the first that isn't what it must be makes a complaint.
class Members {
 public:
  explicit Members(const Json& json) : json_(json) {}

  std::int64_t integer(const char* name, std::int64_t least) {
    const Json* value = find(name);
    if (value == nullptr) return least;
    const bool fits =
        value->is_number_unsigned() && value->get<std::uint64_t>() <= std::uint64_t{most_number};
    if (!fits || value->get<std::int64_t>() < least) {
      complain(name, concat("a whole number from ", least));
      return least;
    }
    return value->get<std::int64_t>();
  }

  /// Whatever it holds.
  std::string text(const char* name) {
    const Json* value = find(name);
    if (value == nullptr) return "";
    if (value->is_string()) return value->get<std::string>();
    complain(name, "a string");
    return "";
  }

  bool flag(const char* name) {
    const Json* value = find(name);
    if (value == nullptr) return false;
    if (!value->is_boolean()) complain(name, "true or false");
    return *value == true;
  }

  std::string plain_text(const char* name) {
    std::string plain = text(name);
    if (!is_plain(plain)) complain(name, "a plain string");
    return plain;
  }

  std::uint64_t word(const char* name) {
    const std::string digits = text(name);
    const std::optional<std::uint64_t> word = parse_hex_word(digits);
    if (!word) complain(name, "0x and 16 hexadecimal digits");
    return word.value_or(0);
  }

  /// An object of this name, read by `read`, whose complaint becomes this one's.
  template <class Read>
  void object(const char* name, Read read) {
    const Json* value = find(name);
    if (value == nullptr) return;
    if (!value->is_object()) return complain(name, "an object");
    Members members(*value);
    read(members);
    if (complaint_.empty() && !members.complaint().empty())
      complaint_ = concat("of its \"", name, "\": ", members.complaint());
  }

  OrderValues order(const char* name) {
    OrderValues values;
    const Json* object = find(name);
    if (object == nullptr) return values;
    if (!object->is_object() || object->size() > most_names) {
      complain(name, "an object");
      return values;
    }
    for (const auto& [key, value] : object->items()) {
      if (fits_64_bits(value))
        values.emplace(key, value.get<std::int64_t>());
      else if (value.is_string() && is_plain(value.get_ref<const std::string&>()))
        values.emplace(key, value.get<std::string>());
      else
        complain(name, "an object of whole numbers and plain strings");
    }
    return values;
  }

  [[nodiscard]] const std::string& complaint() const { return complaint_; }

 private:
  const Json* find(const char* name) {
    const auto found = json_.find(name);
    if (found != json_.end()) return &*found;
    if (complaint_.empty()) complaint_ = concat("it has no \"", name, "\"");
    return nullptr;
  }
  void complain(const char* name, const std::string& wanted) {
    if (complaint_.empty()) complaint_ = concat("its \"", name, "\" is not ", wanted);
  }

  const Json& json_;
  std::string complaint_;
};

/// Takes a journal in, piece by piece.
class Reader {
 public:
  explicit Reader(std::string name) : name_(std::move(name)) {}

  /// The next bytes of the file, cut anywhere. After an error, which only the header can have, nothing more.
  [[nodiscard]] Status take(std::string_view bytes);
  [[nodiscard]] Result<Journal> finish() &&;

 private:
  [[nodiscard]] Status take_line(std::string_view text);
  [[nodiscard]] Status take_header(std::string_view text);
  void take_record(std::string_view text);
  void add_fault(const std::string& what);
  void read_seal(Members& members);

  std::string name_;
  std::string begun_;      // of a line, whose end has not come yet
  bool too_long_ = false;  // that line
  std::int64_t begun_bytes_ = 0;
  std::int64_t line_ = 0;
  Journal journal_;
};

Status Reader::take(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    const std::string_view piece = bytes.substr(0, end);
    too_long_ = too_long_ || begun_.size() + piece.size() > most_line_bytes;
    if (too_long_ && line_ == 0) return take_header("");
    if (!too_long_) begun_ += piece;
    if (end == std::string_view::npos) {
      begun_bytes_ += static_cast<std::int64_t>(piece.size());
      return {};
    }
    PACELINE_TRY(take_line(begun_));
    journal_.bytes += begun_bytes_ + static_cast<std::int64_t>(piece.size()) + 1;
    begun_bytes_ = 0;
    begun_.clear();
    too_long_ = false;
    bytes.remove_prefix(end + 1);
  }
  return {};
}

Status Reader::take_line(std::string_view text) {
  if (++line_ == 1) return take_header(text);
  if (too_long_)
    add_fault("it is too long");
  else
    take_record(text);
  return {};
}

Status Reader::take_header(std::string_view text) {
  const Line line = parse_line(text);
  if (!line.complaint.empty() || line.json.at("type") != "journal")
    return Error{ErrorCode::corrupt, concat(name_,
                                            " has no journal's header in its first line: it is not a "
                                            "journal, or its beginning was lost")};
  Members members(line.json);
  JournalHeader& header = journal_.header;
  header.version = members.integer("version", 1);
  if (members.complaint().empty() && header.version != journal_version)
    return Error{ErrorCode::unsupported, concat(name_, " is a journal of version ", header.version,
                                                ", and this program reads version ", journal_version)};
  header.run = members.plain_text("run");
  header.term = members.integer("term", 1);
  // A run's first coordinator may have died before it had a journal.
  if (header.term > 1 && line.json.contains("follows")) read_seal(members);
  header.key = members.word("key");
  header.order = members.order("order");
  if (members.complaint().empty() && header.follows && header.follows->term >= header.term)
    return Error{ErrorCode::corrupt, concat(name_, ":1: a journal of term ", header.term,
                                            " cannot follow one of term ", header.follows->term)};
  if (!members.complaint().empty())
    return Error{ErrorCode::corrupt, concat(name_, ":1: this is no journal's header: ", members.complaint())};
  return {};
}

/// What a term after the first goes on from.
void Reader::read_seal(Members& members) {
  JournalSeal& seal = journal_.header.follows.emplace();
  members.object("follows", [&seal](Members& inner) {
    seal.term = inner.integer("term", 1);
    seal.bytes = inner.integer("bytes", 1);
    seal.base_step = inner.integer("base_step", 0);
  });
}

void Reader::take_record(std::string_view text) {
  const Line line = parse_line(text);
  if (!line.complaint.empty()) return add_fault(line.complaint);
  Members members(line.json);
  const auto keep = [&](auto record, auto&& where) {
    if (members.complaint().empty())
      where(std::move(record));
    else
      add_fault(members.complaint());
  };
  const std::string type = line.json.at("type").get<std::string>();
  if (type == "step") {
    const JournalStep step{members.integer("step", 1), members.integer("epoch", 1),
                           members.integer("first", 0), members.integer("count", 1),
                           members.word("consumed")};
    keep(step, [&](const JournalStep& read) { journal_.steps.push_back(read); });
    journal_.end.reset();  // of a run that went on
  } else if (type == "epoch") {
    const JournalEpoch epoch{members.integer("epoch", 1), members.integer("steps", 1),
                             members.integer("samples", 1)};
    keep(epoch, [&](const JournalEpoch& read) { journal_.epochs.push_back(read); });
  } else if (type == "evaluation") {
    keep(members.integer("epoch", 1), [&](std::int64_t epoch) { journal_.evaluated.push_back(epoch); });
  } else if (type == "generation") {
    JournalGeneration generation{members.integer("generation", 1), members.integer("term", 1),
                                 members.integer("base_step", 0),  members.integer("ranks", 1),
                                 members.flag("planned"),          members.text("reason")};
    keep(std::move(generation),
         [&](JournalGeneration read) { journal_.generations.push_back(std::move(read)); });
  } else if (type == "end") {
    JournalEnd end{members.plain_text("status"), members.integer("steps", 0), ""};
    if (line.json.contains("error")) end.error = members.text("error");
    keep(end, [&](JournalEnd read) { journal_.end = std::move(read); });
  } else if (type == "journal") {
    add_fault("it is a second header: two journals were written into one file");
  }
}

void Reader::add_fault(const std::string& what) {
  ++journal_.fault_count;
  if (journal_.faults.size() < most_faults) journal_.faults.push_back({journal_.header.term, line_, what});
}

Result<Journal> Reader::finish() && {
  // A line without its end is what a killed writer leaves. What it says was not yet promised.
  journal_.torn_end = !begun_.empty() || too_long_;
  if (line_ == 0) PACELINE_TRY(take_header(""));
  return std::move(journal_);
}

}  // namespace

Result<Journal> parse_journal(std::string_view text, const std::string& name) {
  Reader reader(name);
  PACELINE_TRY(reader.take(text));
  return std::move(reader).finish();
}

Result<Journal> read_journal(const std::string& path, std::int64_t most_bytes) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) {
    Error error = system_error(concat("cannot open ", path));
    if (errno == ENOENT) error.code = ErrorCode::not_found;
    return error;
  }
  Reader reader(path);
  std::vector<char> block(std::size_t{1} << 16);
  for (std::int64_t left = most_bytes;;) {
    const auto wanted = static_cast<std::size_t>(std::min<std::int64_t>(left, std::ssize(block)));
    const ssize_t got = ::read(file.get(), block.data(), wanted);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(concat("cannot read ", path));
    if (got == 0) return std::move(reader).finish();
    left -= got;
    PACELINE_TRY(reader.take({block.data(), static_cast<std::size_t>(got)}));
  }
}

}  // namespace paceline

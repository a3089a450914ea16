// One value of a job file: its type and its limits.
#include "job_value.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

std::string shown_key(const Field& field, const Tree& value) {
  return value.shown_key.empty() ? std::string(field.key) : value.shown_key;
}

/// "batch.global is "many": it must be ..." with what the value is.
Error wrong_value(const Field& field, const Tree& value, const std::string& must) {
  std::string is;
  switch (value.kind) {
    case Tree::Kind::null: is = " has no value"; break;
    case Tree::Kind::list: is = " is a list"; break;
    case Tree::Kind::map: is = " is a map"; break;
    case Tree::Kind::scalar: {
      const std::string quoted = quote_for_error(value.text);
      // What the file has without quotes is shown without, as long as that is readable.
      const bool is_plain =
          !value.is_quoted && !value.text.empty() && quoted == concat("\"", value.text, "\"");
      is = concat(" is ", is_plain ? value.text : quoted);
    }
  }
  return mistake(value.where, concat(shown_key(field, value), is, ": it must be ", must));
}

bool is_folder_name(std::string_view text) {
  constexpr std::string_view others = "._-";
  return !text.empty() && text.size() <= 100 && text.front() != '.' && text.front() != '-' &&
         std::ranges::all_of(text, [&](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  others.find(c) != std::string_view::npos;
         });
}

Status assign_text(const Field& field, const Tree& value, std::string& place) {
  const std::string& text = value.text;
  if (has_control_character(text)) return wrong_value(field, value, "text without control characters");
  if (text.empty() && !field.example.empty())
    return wrong_value(field, value, concat(field.meaning, ", for example ", field.example));
  if (std::holds_alternative<FolderName>(field.limits) && !is_folder_name(text))
    return wrong_value(
        field, value,
        concat(type_phrase(field), " that starts with a letter, a digit or '_', of at most 100"));
  if (const auto* choices = std::get_if<Choices>(&field.limits);
      choices != nullptr && text != place && std::ranges::find(*choices, text) == choices->end()) {
    const std::vector<std::string> names(choices->begin(), choices->end());
    const std::string near = nearest(text, names);
    const bool is_path = field.key == "model.kind" && text.find('/') != std::string::npos;
    return wrong_value(
        field, value,
        concat(list_choices(*choices), near.empty() ? "" : concat(" (did you mean ", near, "?)"),
               is_path ? concat(", or a map {plugin: ", text, "}") : ""));
  }
  place = text;
  return {};
}

std::string_view without_plus(std::string_view text) {
  return text.starts_with('+') && !text.starts_with("+-") ? text.substr(1) : text;
}

Status assign_integer(const Field& field, const Tree& value, std::int64_t& place) {
  const auto& limits = std::get<IntegerLimits>(field.limits);
  const std::string_view text = without_plus(value.text);
  std::int64_t number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool is_whole = end == text.data() + text.size() && code != std::errc::invalid_argument;
  if (!is_whole || value.is_quoted) return wrong_value(field, value, "a whole number");
  const bool overflows = code == std::errc::result_out_of_range;
  if (overflows ? text.starts_with('-') : number < limits.least)
    return wrong_value(field, value, concat("at least ", limits.least));
  if (overflows || number > limits.greatest)
    return wrong_value(field, value, concat("at most ", limits.greatest));
  place = number;
  return {};
}

/// As YAML writes them: also ".inf" and ".nan", which are numbers, but never good ones.
std::optional<double> parse_number(std::string_view text) {
  text = without_plus(text);
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (lower == ".nan" || lower == ".inf" || lower == "-.inf") return std::nan("");
  double number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (end != text.data() + text.size() || code == std::errc::invalid_argument) return std::nullopt;
  return code == std::errc::result_out_of_range ? std::nan("") : number;
}

Status assign_number(const Field& field, const Tree& value, double& place) {
  const auto& limits = std::get<NumberLimits>(field.limits);
  const std::optional<double> number = parse_number(value.text);
  if (!number || value.is_quoted) return wrong_value(field, value, "a number");
  if (!std::isfinite(*number)) return wrong_value(field, value, "a finite number that 64 bits can hold");
  if (*number < limits.least || (limits.least_is_open && *number == limits.least))
    return wrong_value(field, value, concat(limits.least_is_open ? "more than " : "at least ", limits.least));
  if (*number > limits.greatest || (limits.greatest_is_open && *number == limits.greatest))
    return wrong_value(field, value,
                       concat(limits.greatest_is_open ? "less than " : "at most ", limits.greatest));
  place = *number;
  return {};
}

Status assign_boolean(const Field& field, const Tree& value, bool& place) {
  const bool yes = value.text == "true" || value.text == "True" || value.text == "TRUE";
  const bool no = value.text == "false" || value.text == "False" || value.text == "FALSE";
  if (value.is_quoted || (!yes && !no)) return wrong_value(field, value, "true or false");
  place = yes;
  return {};
}

Status assign_map(const Field& field, const Tree& value, std::map<std::string, double>& place) {
  constexpr std::size_t most_names = 100, most_bytes = 100;
  if (value.entries.size() > most_names)
    return mistake(value.where, concat(field.key, " has ", value.entries.size(),
                                       " names: it can have at most ", most_names));
  std::map<std::string, double> read;
  for (const TreeEntry& entry : value.entries) {
    if (entry.key.empty() || entry.key.size() > most_bytes || has_control_character(entry.key))
      return mistake(entry.where, concat("a kind of node cannot be called ", quote_for_error(entry.key)));
    const std::optional<double> number = entry.value.kind == Tree::Kind::scalar && !entry.value.is_quoted
                                             ? parse_number(entry.value.text)
                                             : std::nullopt;
    if (!number || !std::isfinite(*number) || *number <= 0)
      return mistake(entry.value.where, concat(field.key, " of ", quote_for_error(entry.key),
                                               " must be a finite number, more than 0"));
    read[entry.key] = *number;
  }
  place = std::move(read);
  return {};
}

}  // namespace

Error mistake(std::string_view where, const std::string& what) {
  return {ErrorCode::invalid_argument, concat(where, ": ", what)};
}

bool has_control_character(std::string_view text) {
  return std::ranges::any_of(text, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7F;
  });
}

Status assign(const Field& field, const Tree& value, Job& job) {
  const Slot slot = field.slot(job);
  if (auto* const* map = std::get_if<std::map<std::string, double>*>(&slot)) {
    if (value.kind != Tree::Kind::map) return wrong_value(field, value, type_phrase(field));
    return assign_map(field, value, **map);
  }
  if (value.kind != Tree::Kind::scalar) return wrong_value(field, value, type_phrase(field));
  if (auto* const* text = std::get_if<std::string*>(&slot)) return assign_text(field, value, **text);
  if (auto* const* whole = std::get_if<std::int64_t*>(&slot)) return assign_integer(field, value, **whole);
  if (auto* const* number = std::get_if<double*>(&slot)) return assign_number(field, value, **number);
  return assign_boolean(field, value, *std::get<bool*>(slot));
}

}  // namespace paceline

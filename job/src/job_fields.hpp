#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "paceline/job/job.hpp"

namespace paceline {

/// Where a field's value lives in a Job (not owned); which alternative it is, is the field's type.
using Slot = std::variant<std::string*, std::int64_t*, double*, bool*, std::map<std::string, double>*>;
using FieldValue = std::variant<std::string, std::int64_t, double, bool, std::map<std::string, double>>;

struct AnyValue {};
/// Text that can be the name of a folder.
struct FolderName {};
struct IntegerLimits {
  std::int64_t least = 0;
  std::int64_t greatest = std::numeric_limits<std::int64_t>::max();
};
/// Always finite. An open end is not itself a value.
struct NumberLimits {
  double least = 0;
  double greatest = std::numeric_limits<double>::infinity();
  bool least_is_open = false;
  bool greatest_is_open = false;
};
using Choices = std::span<const std::string_view>;
using Limits = std::variant<AnyValue, FolderName, IntegerLimits, NumberLimits, Choices>;

/// A field that only means something while another one (`key`) has a certain value; empty: always.
struct OnlyWith {
  std::string_view key;
  std::string_view value;
};

struct Field {
  std::string_view key;  ///< dotted path
  Slot (*slot)(Job&);
  Limits limits;
  std::string_view meaning;
  std::string_view example{};  ///< not empty: the field is required
  OnlyWith only_with = {};
};

/// A key whose value is a map. A single value there stands for the fields that `shorthand` names.
struct Section {
  std::string_view key;
  std::vector<std::string_view> shorthand = {};
  bool takes_options = false;  ///< keys that are no fields are options, kept as text
};

/// Every key of a job file, in the order in which people read them. Parsing, overrides, errors, JSON and the
/// table in docs/job-file.md all come from this list.
[[nodiscard]] const std::vector<Field>& job_fields();
[[nodiscard]] const std::vector<Section>& job_sections();

[[nodiscard]] const Field* find_field(std::string_view key);
[[nodiscard]] const Section* find_section(std::string_view key);

/// "sgd or adamw", "cnn, mlp or resnet18".
[[nodiscard]] std::string list_choices(Choices choices);
/// What a value of this field must be: "a whole number", "true or false", ...
[[nodiscard]] std::string type_phrase(const Field& field);

/// What a field is in a job.
[[nodiscard]] FieldValue field_value(const Field& field, const Job& job);

}  // namespace paceline

#include "job_json.hpp"

#include "job_fields.hpp"
#include "job_tree.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr int most_levels = 16;

Status fill(const Json& json, const std::string& source, int level, Tree& tree) {
  tree.where = source;
  if (level > most_levels)
    return Error{ErrorCode::corrupt,
                 concat(source, ": this is nested more than ", most_levels, " levels deep")};
  if (json.is_object()) {
    tree.kind = Tree::Kind::map;
    for (const auto& [key, value] : json.items()) {
      TreeEntry entry{key, source, {}};
      PACELINE_TRY(fill(value, source, level + 1, entry.value));
      tree.entries.push_back(std::move(entry));
    }
  } else if (json.is_array()) {
    tree.kind = Tree::Kind::list;
  } else if (json.is_string()) {
    tree.kind = Tree::Kind::scalar;
    tree.is_quoted = true;
    tree.text = json.get_ref<const std::string&>();
  } else if (json.is_boolean() || json.is_number()) {
    tree.kind = Tree::Kind::scalar;
    tree.text = json.dump();
  }
  return {};
}

}  // namespace

Result<Json> parse_json(std::string_view text, std::string_view source) {
  try {
    return Json::parse(text);
  } catch (const Json::exception& error) {
    return Error{ErrorCode::corrupt, concat(source, ": this is not valid JSON: ", error.what())};
  }
}

std::string dump_json(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

Json job_to_value(const Job& job) {
  Json json = Json::object();
  for (const Field& field : job_fields()) {
    const std::size_t dot = field.key.find('.');
    Json& place = dot == std::string_view::npos
                      ? json[std::string(field.key)]
                      : json[std::string(field.key.substr(0, dot))][std::string(field.key.substr(dot + 1))];
    std::visit([&](const auto& value) { place = value; }, field_value(field, job));
  }
  for (const auto& [key, value] : job.model.options) json["model"][key] = value;
  return json;
}

Result<Tree> tree_from_value(const Json& json, const std::string& source) {
  Tree tree;
  PACELINE_TRY(fill(json, source, 0, tree));
  return tree;
}

Result<Job> job_from_value(const Json& json, const std::string& source) {
  PACELINE_ASSIGN(Tree tree, tree_from_value(json, source));
  return job_from_tree(std::move(tree), source, TreeOrigin::program);
}

std::string job_to_json(const Job& job) {
  return dump_json(job_to_value(job), 2) + "\n";
}

Result<Job> job_from_json(const std::string& json) {
  const std::string source = "the resolved job";
  PACELINE_ASSIGN(const Json value, parse_json(json, source));
  return job_from_value(value, source);
}

}  // namespace paceline

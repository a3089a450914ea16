#include "job_tree.hpp"

#include <algorithm>

#include "job_fields.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

Tree* find_value(Tree& map, std::string_view key) {
  const auto found = std::ranges::find(map.entries, key, &TreeEntry::key);
  return found == map.entries.end() ? nullptr : &found->value;
}

void expand_shorthand(Tree& value, const Section& section) {
  if (value.kind != Tree::Kind::scalar || section.shorthand.empty()) return;
  Tree map;
  map.kind = Tree::Kind::map;
  map.where = value.where;
  value.shown_key = section.key;
  for (const std::string_view dotted : section.shorthand)
    map.entries.push_back({std::string(dotted.substr(section.key.size() + 1)), value.where, value});
  value = std::move(map);
}

}  // namespace

void expand_shorthands(Tree& root) {
  for (const Section& section : job_sections())
    if (Tree* value = find_value(root, section.key)) expand_shorthand(*value, section);
}

Status set_in_tree(Tree& root, std::string_view dotted_key, Tree value) {
  const std::vector<std::string> path = split(dotted_key, '.');
  if (std::ranges::find(path, "") != path.end())
    return Error{ErrorCode::invalid_argument,
                 concat(value.where, ": the key must be a dotted path such as batch.global")};
  Tree* place = &root;
  for (const std::string& key : path) {
    if (place->kind == Tree::Kind::null) place->kind = Tree::Kind::map;
    if (place->kind != Tree::Kind::map)
      return Error{ErrorCode::invalid_argument,
                   concat(value.where, ": what the job has there (", place->where,
                          ") is not a map, so it has no key ", quote_for_error(key))};
    Tree* next = find_value(*place, key);
    if (next == nullptr) {
      place->entries.push_back({key, value.where, {}});
      next = &place->entries.back().value;
      next->where = value.where;
    }
    // Only where the path goes on: `--set ranks=2` replaces whatever was there.
    if (place == &root && path.size() > 1)
      if (const Section* section = find_section(key)) expand_shorthand(*next, *section);
    place = next;
  }
  *place = std::move(value);
  return {};
}

std::string quote_for_error(std::string_view text) {
  constexpr std::size_t most_bytes = 60;
  std::string shown = "\"";
  std::size_t end = std::min(text.size(), most_bytes);
  const auto continues = [&](std::size_t i) {
    return (static_cast<unsigned char>(text[i]) & 0xC0U) == 0x80U;
  };
  while (end > 0 && end < text.size() && continues(end)) --end;
  for (const char c : text.substr(0, end)) {
    const auto byte = static_cast<unsigned char>(c);
    shown += byte < 0x20 || byte == 0x7F ? '?' : c;
  }
  return shown + (end < text.size() ? "...\"" : "\"");
}

}  // namespace paceline

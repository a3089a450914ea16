#include <sys/stat.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <optional>
#include <sstream>

#include "job_json.hpp"
#include "job_tree.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "paceline/job/job.hpp"

namespace paceline {
namespace {

constexpr std::size_t most_bytes = std::size_t{1} << 20;
// Aliases can make a tree of any size from a small file.
constexpr std::size_t most_levels = 16;
constexpr std::size_t most_nodes = 2000;

std::size_t count_nodes(const Tree& tree) {
  std::size_t nodes = 1;
  for (const TreeEntry& entry : tree.entries) nodes += count_nodes(entry.value);
  return nodes;
}

/// Builds a Tree from the parser's events, and notes the first thing that no job file has. Events and not
/// YAML::Load, because that reads on past the end of a document with no way to tell, and YAML::LoadAll never
/// returns for some of what follows a flow map.
class TreeBuilder final : public YAML::EventHandler {
 public:
  /// `source` is a file whose lines are worth naming, or with `has_lines` false a single value.
  TreeBuilder(std::string source, bool has_lines) : source_(std::move(source)), has_lines_(has_lines) {
    root_.where = source_;
  }

  [[nodiscard]] std::string where(const YAML::Mark& mark) const {
    if (!has_lines_ || mark.is_null()) return source_;
    return concat(source_, ":", mark.line + 1, ":", mark.column + 1);
  }

  [[nodiscard]] Result<Tree> take() {
    if (error_) return *error_;
    return std::move(root_);
  }
  [[nodiscard]] bool failed() const { return error_.has_value(); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (has_document_)
      fail(where(mark),
           "what follows here is no part of the job: check the brackets before it, and keep a single YAML "
           "document");
    has_document_ = true;
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(make(Tree::Kind::null, mark), anchor);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Tree tree = make(Tree::Kind::scalar, mark);
    tree.text = value;
    tree.is_quoted = tag == "!" || tag == "tag:yaml.org,2002:str";
    add(std::move(tree), anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) return fail(where(mark), "this alias stands within what it stands for");
    if (failed()) return;
    Tree copy = found->second;
    copy.where = where(mark);
    const std::size_t nodes = count_nodes(copy);
    add(std::move(copy), 0, nodes);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(Tree::Kind::list, mark, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(Tree::Kind::map, mark, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  /// A map or list whose end is still to come.
  struct Open {
    Tree tree;
    YAML::anchor_t anchor = 0;
    std::optional<TreeEntry> next;  // of a map: its key was there, its value not yet
  };

  void fail(std::string_view at, const std::string& what) {
    if (!error_) error_ = Error{ErrorCode::invalid_argument, concat(at, ": ", what)};
  }

  [[nodiscard]] Tree make(Tree::Kind kind, const YAML::Mark& mark) const {
    Tree tree;
    tree.kind = kind;
    tree.where = where(mark);
    return tree;
  }

  void open(Tree::Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor) {
    open_.push_back({make(kind, mark), anchor, std::nullopt});
    if (open_.size() > most_levels)
      fail(where(mark), concat("this is nested more than ", most_levels, " levels deep"));
  }

  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    add(std::move(done.tree), done.anchor);
  }

  void add(Tree value, YAML::anchor_t anchor, std::size_t nodes = 1) {
    if (failed()) return;
    nodes_ += nodes;
    if (nodes_ > most_nodes) return fail(source_, concat("this has more than ", most_nodes, " values"));
    if (anchor != 0) anchors_[anchor] = value;
    if (open_.empty()) {
      if (root_.kind == Tree::Kind::null) root_ = std::move(value);
    } else if (open_.back().tree.kind == Tree::Kind::map) {
      add_to_map(open_.back(), std::move(value));
    }
    // No key takes a list, so what is in one doesn't matter.
  }

  void add_to_map(Open& map, Tree value) {
    if (!map.next) {
      if (value.kind != Tree::Kind::scalar) return fail(value.where, "a key must be a single word");
      if (std::ranges::find(map.tree.entries, value.text, &TreeEntry::key) != map.tree.entries.end())
        return fail(value.where,
                    concat("the key ", quote_for_error(value.text), " is here twice: keep one of them"));
      map.next = TreeEntry{value.text, value.where, {}};
      return;
    }
    map.next->value = std::move(value);
    // A value that isn't there has no place of its own.
    if (map.next->value.kind == Tree::Kind::null) map.next->value.where = map.next->where;
    map.tree.entries.push_back(std::move(*map.next));
    map.next.reset();
  }

  std::string source_;
  bool has_lines_;
  bool has_document_ = false;
  std::size_t nodes_ = 0;
  Tree root_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Tree> anchors_;
  std::optional<Error> error_;
};

Result<Tree> read_tree(const std::string& yaml, const std::string& source, bool has_lines) {
  const auto invalid = [](const std::string& at, std::string_view why) {
    const std::string quoted =
        quote_for_error(why);  // the library puts characters of the file into its words
    return Error{ErrorCode::invalid_argument,
                 concat(at, ": this is not valid YAML (", quoted.substr(1, quoted.size() - 2),
                        "): check indentation, colons, brackets and quotes there")};
  };
  if (!is_utf8(yaml))
    return Error{ErrorCode::invalid_argument, concat(source, ": this is not UTF-8 text, so not YAML")};
  TreeBuilder builder(source, has_lines);
  try {
    std::istringstream stream(yaml);
    YAML::Parser parser(stream);
    if (parser.HandleNextDocument(builder) && !builder.failed()) parser.HandleNextDocument(builder);
  } catch (const YAML::Exception& error) {
    if (!builder.failed()) return invalid(builder.where(error.mark), error.msg);
  } catch (const std::exception& error) {
    return invalid(source, error.what());
  }
  return builder.take();
}

Status apply(const JobOverride& override_, Tree& root) {
  const std::string shown = concat(override_.key, "=", override_.value);
  if (!is_utf8(shown)) return Error{ErrorCode::invalid_argument, "--set: this is not UTF-8 text"};
  const std::string quoted = quote_for_error(shown);
  const bool is_plain = quoted == concat("\"", shown, "\"") && shown.find(' ') == std::string::npos;
  const std::string source = concat("--set ", is_plain ? shown : quoted);
  PACELINE_ASSIGN(Tree value, read_tree(override_.value, source, false));
  return set_in_tree(root, override_.key, std::move(value));
}

}  // namespace

Result<Job> parse_job(const std::string& yaml, const std::string& source_name,
                      const std::vector<JobOverride>& overrides) {
  PACELINE_ASSIGN(Tree root, read_tree(yaml, source_name, true));
  if (root.kind == Tree::Kind::null)
    return Error{
        ErrorCode::invalid_argument,
        concat(source_name, ": this is empty: a job file is a map of keys such as name, data, model, batch")};
  if (root.kind == Tree::Kind::map)
    for (const JobOverride& override_ : overrides) PACELINE_TRY(apply(override_, root));
  return job_from_tree(std::move(root), source_name, TreeOrigin::people);
}

Result<Job> with_overrides(const Job& job, const std::vector<JobOverride>& overrides) {
  const std::string source = "the resolved job";
  PACELINE_ASSIGN(Tree root, tree_from_value(job_to_value(job), source));
  for (const JobOverride& override_ : overrides) PACELINE_TRY(apply(override_, root));
  return job_from_tree(std::move(root), source, TreeOrigin::program);
}

Result<Job> load_job(const std::string& path, const std::vector<JobOverride>& overrides) {
  struct stat status {};
  if (path.empty())
    return Error{ErrorCode::invalid_argument, "the job file's name is empty: give the path of one"};
  if (::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode))
    return Error{ErrorCode::invalid_argument,
                 concat(path, ": this is a folder: give the path of a job file")};
  Result<std::string> yaml = read_file(path, most_bytes);
  if (!yaml.ok()) {
    Error error = std::move(yaml).error();
    error.message += ": give the path of a job file that can be read";
    return error;
  }
  return parse_job(*yaml, path, overrides);
}

}  // namespace paceline

// What people ask of a coordinator, and its answers.
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "elastic/coordinator_process.hpp"
#include "job_size.hpp"
#include "paceline/base/text.hpp"
#include "paceline/control/version.hpp"
#include "paceline/job/plan.hpp"

namespace paceline {
namespace {

using Json = nlohmann::ordered_json;

control::Answer refusal(const std::string& why) {
  control::Answer answer;
  answer.set_error(why);
  answer.set_usage(true);
  return answer;
}

control::Answer failure(const Status& status) {
  control::Answer answer;
  answer.set_error(status.error().message);
  return answer;
}

control::Answer done(const std::string& text) {
  control::Answer answer;
  answer.set_text(text);
  return answer;
}

Json telemetry_json(const HeartbeatMessage& heartbeat) {
  return Json::parse(encode(heartbeat)).at("telemetry");
}

/// Of one rank of this size, over that of one rank alone.
Json estimate_json(const std::optional<SizePrediction>& prediction) {
  if (!prediction) return nullptr;
  const Estimate& efficiency = prediction->efficiency;
  return {{"value", efficiency.value}, {"low", efficiency.low}, {"high", efficiency.high}};
}

Json known_or_null(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json stragglers_json(const std::vector<StragglerEvent>& events) {
  Json list = Json::array();
  for (const StragglerEvent& event : events)
    list.push_back({{"rank", event.suspect ? Json(event.suspect->rank) : Json(nullptr)},
                    {"node", event.suspect ? Json(event.suspect->node) : Json(nullptr)},
                    {"part", name_of(event.part)},
                    {"cause", name_of(event.cause)},
                    {"ratio", event.ratio},
                    {"reason", event.sentence}});
  return list;
}

std::string ranks_text(std::int64_t ranks) {
  return concat(ranks, ranks == 1 ? " rank" : " ranks");
}

}  // namespace

void CoordinatorProcess::answer(control::QuestionId question, const control::Request& request) {
  control::Answer answer = answer_to(request);
  answer.set_agents(std::ranges::count_if(roster_.agents(),
                                          [](const auto& agent) { return agent.second.stream.has_value(); }));
  server_->answer(question, answer);
}

control::Answer CoordinatorProcess::answer_to(const control::Request& request) {
  if (request.version() != control::version)
    return refusal(concat("the job's coordinator speaks version ", control::version,
                          " of the control protocol, and this program version ", request.version(),
                          ": use the build that the job was started with"));
  if (request.has_status()) return done(status_json());
  if (ended_) return refusal("the job has ended");
  if (!coordinator_) return refusal("the job has not begun yet: try again in a moment");
  switch (request.what_case()) {
    case control::Request::kResize: return resize(request.resize().ranks());
    case control::Request::kDrain: return drain(request.drain().node());
    case control::Request::kStop:
      feed(StopWanted{});
      return done("the ranks stop together after the step in progress");
    case control::Request::kStatus:
    case control::Request::WHAT_NOT_SET: break;
  }
  return refusal("the request asks for nothing that this coordinator knows");
}

control::Answer CoordinatorProcess::resize(std::int64_t ranks) {
  if (ranks < facts_.min_ranks || ranks > facts_.max_ranks)
    return refusal(concat("the job can have ", facts_.min_ranks, " to ", ranks_text(facts_.max_ranks),
                          " (ranks.min and ranks.max of its job file), not ", ranks));
  if (const Status fits = check_ranks(job_, ranks); !fits.ok()) return refusal(fits.error().message);
  const bool is_short = ranks > roster_.room();
  if (is_short && job_.ranks.grow.empty())
    return refusal(concat("the job's agents have places for ", ranks_text(roster_.room()), ", not for ",
                          ranks, ": let another node join first"));
  const std::int64_t before = coordinator_->wish();
  facts_.ranks = ranks;
  if (const Status kept = write_launch_facts(options_.run_dir, facts_); !kept.ok()) return failure(kept);
  feed(ResizeWanted{ranks});
  if (is_short)
    return done(concat("from ", before, " to ", ranks_text(ranks), ": there are places for ", roster_.room(),
                       ", and Slurm is asked for more nodes where it has started this job"));
  return done(ranks == before ? concat("the job is to have ", ranks_text(ranks), " already")
                              : concat("from ", before, " to ", ranks_text(ranks),
                                       ": the switch comes at a commit, once all are connected"));
}

control::Answer CoordinatorProcess::drain(const std::string& node) {
  if (!roster_.has_node(node))
    return refusal(
        concat("the job has nothing on a node ", shown(node), "; its nodes are ", roster_.node_names()));
  roster_.close_node(node);
  facts_.closed.push_back(node);
  if (const Status kept = write_launch_facts(options_.run_dir, facts_); !kept.ok()) return failure(kept);
  const std::vector<WorkerId> workers = roster_.workers_on_node(node);
  feed(DrainWanted{workers, roster_.room()});
  const std::string what = concat(workers.size(), workers.size() == 1 ? " worker" : " workers", " on ", node);
  if (roster_.room() < facts_.min_ranks)
    return done(concat(what, " are to go, but the job needs ", ranks_text(facts_.min_ranks),
                       " and has places for ", roster_.room(), " elsewhere: they stay until there are more"));
  return done(concat(what, " leave at the next change of ranks, and no more are started there"));
}

std::string CoordinatorProcess::status_json() {
  Json ranks = Json::array();
  const Generation generation = coordinator_ ? coordinator_->generation() : nullptr;
  const std::int64_t size = generation == nullptr ? 0 : std::ssize(generation->members);
  const auto shares = size > 0 ? equal_shares(step_grains(job_, size), size) : Result<Shares>(Shares{});
  for (const auto& [id, worker] : workers_) {
    const bool member =
        generation != nullptr &&
        std::ranges::find(generation->members, id, &GenerationMember::worker) != generation->members.end();
    const std::int64_t rank = rank_of(id);
    // As it says itself, once it has trained.
    const bool trained = member && worker.heartbeat && worker.heartbeat->share > 0;
    const Json share = trained                 ? Json(worker.heartbeat->share)
                       : member && shares.ok() ? Json((*shares)[static_cast<std::size_t>(rank)])
                                               : Json(0);
    const Json step_ms = trained ? Json(worker.heartbeat->step_ms) : Json(nullptr);
    Json one = {{"rank", member ? Json(rank) : Json(nullptr)},
                {"worker", id},
                {"node", roster_.node_of(id)},
                {"pid", worker.pid},
                {"device", "cpu"},
                {"state", coordinator_ ? coordinator_->describe(id) : "starting"},
                {"step", member && worker.heartbeat ? Json(worker.heartbeat->step) : Json(nullptr)},
                {"doing", worker.heartbeat ? Json(worker.heartbeat->phase) : Json(nullptr)},
                {"share", share},
                {"step_ms", step_ms},
                {"telemetry", worker.heartbeat ? telemetry_json(*worker.heartbeat) : Json(nullptr)}};
    ranks.push_back(std::move(one));
  }
  const auto place = [](const Json& one) {
    return one["rank"].is_null() ? std::int64_t{1} << 53 : one["rank"].get<std::int64_t>();
  };
  std::stable_sort(ranks.begin(), ranks.end(),
                   [place](const Json& a, const Json& b) { return place(a) < place(b); });
  Json agents = Json::array();
  for (const auto& [name, agent] : roster_.agents())
    agents.push_back({{"agent", name},
                      {"index", agent.index},
                      {"places", agent.slots.size()},
                      {"connected", agent.stream.has_value()}});
  const Json json = {{"state", ended_         ? outcome_.status
                               : coordinator_ ? coordinator_->state_name()
                                              : "gathering"},
                     {"run_dir", options_.run_dir},
                     {"step", steps()},
                     {"steps", plan_.steps()},
                     {"generation", generation == nullptr ? 0 : generation->generation},
                     {"wish", coordinator_ ? coordinator_->wish() : facts_.ranks},
                     {"room", roster_.room()},
                     {"repairs", coordinator_ ? coordinator_->repairs() : 0},
                     {"resizes", coordinator_ ? coordinator_->resizes() : 0},
                     {"coordinator",
                      {{"term", options_.term},
                       {"pid", ::getpid()},
                       {"node", options_.node},
                       {"address", concat(options_.host, ":", server_->port())}}},
                     {"pause_s", pauses_.total_s()},
                     {"efficiency", estimate_json(insight_.present())},
                     {"gradient_noise_scale", known_or_null(insight_.gradient_noise_scale())},
                     {"stragglers", stragglers_json(insight_.stragglers())},
                     {"agents", agents},
                     {"ranks", ranks}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace paceline

#pragma once

#include <limits>
#include <string_view>

#include "paceline/job/protocol.hpp"

namespace paceline {

// The fields of every message, once: the writer and the reader both walk these lists. An archive has
// field(key, value), integer(key, value, least, greatest), choice(key, value, choices)
// and objects(key, list).

inline constexpr std::int64_t most_integer = std::numeric_limits<std::int64_t>::max();

template <class Message>
struct MessageFields;

template <>
struct MessageFields<StartMessage> {
  static constexpr std::string_view type = "start";
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.choice("action", m.action, {"train", "eval", "export"});
    a.field("job", m.job);
    a.field("run_dir", m.run_dir);
    a.integer("worker", m.worker, 0, most_integer);
    a.field("secret", m.secret);
    a.field("has_listener", m.has_listener);
    a.integer("threads", m.threads, 1, most_integer);
    a.field("consumed_key", m.consumed_key);
    a.field("export_format", m.export_format);
    a.field("export_path", m.export_path);
  }
};

template <>
struct MessageFields<MemberSpec> {
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.field("node", m.node);
    a.field("host", m.host);
    a.integer("port", m.port, 0, 65535);
  }
};

template <>
struct MessageFields<FormMessage> {
  static constexpr std::string_view type = "form";
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.integer("generation", m.generation, 1, most_integer);
    a.integer("term", m.term, 0, most_integer);
    a.integer("rank", m.rank, -1, most_integer);
    a.objects("members", m.members);
    a.integer("base_step", m.base_step, 0, most_integer);
    a.integer("donors", m.donors, 0, most_integer);
    a.field("background", m.background);
    a.field("checkpoint", m.checkpoint);
  }
};

template <>
struct MessageFields<CheckpointEntry> {
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.field("name", m.name);
    a.integer("bytes", m.bytes, 0, most_integer);
  }
};

template <>
struct MessageFields<CheckpointMessage> {
  static constexpr std::string_view type = "checkpoint";
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.integer("step", m.step, 1, most_integer);
    a.integer("generation", m.generation, 1, most_integer);
    a.integer("rank", m.rank, 0, most_integer);
    a.integer("ranks", m.ranks, 1, most_integer);
    a.integer("offset", m.offset, 0, most_integer);
    a.integer("bytes", m.bytes, 0, most_integer);
    a.field("checksums", m.checksums);
    a.objects("layout", m.layout);
    a.field("error", m.error);
  }
};

template <>
struct MessageFields<AbandonMessage> {
  static constexpr std::string_view type = "abandon";
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.integer("generation", m.generation, 1, most_integer);
  }
};

template <>
struct MessageFields<LeaveMessage> {
  static constexpr std::string_view type = "leave";
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.integer("generation", m.generation, 1, most_integer);
  }
};

template <>
struct MessageFields<DismissMessage> {
  static constexpr std::string_view type = "dismiss";
  template <class Archive, class Message>
  static void walk(Archive&, Message&) {}
};

template <>
struct MessageFields<AckMessage> {
  static constexpr std::string_view type = "ack";
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.integer("step", m.step, 0, most_integer);
  }
};

template <>
struct MessageFields<ReadyMessage> {
  static constexpr std::string_view type = "ready";
  template <class Archive, class Message>
  static void walk(Archive&, Message&) {}
};

template <>
struct MessageFields<EnteredMessage> {
  static constexpr std::string_view type = "entered";
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.integer("generation", m.generation, 1, most_integer);
  }
};

template <>
struct MessageFields<Telemetry> {
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.integer("steps", m.steps, 0, most_integer);
    a.integer("grains", m.grains, 0, most_integer);
    a.integer("samples", m.samples, 0, most_integer);
    a.field("data_s", m.data_s);
    a.field("forward_s", m.forward_s);
    a.field("backward_s", m.backward_s);
    a.field("reduce_s", m.reduce_s);
    a.field("commit_s", m.commit_s);
    a.field("optimizer_s", m.optimizer_s);
    a.field("cpu_s", m.cpu_s);
    a.integer("read_bytes", m.read_bytes, 0, most_integer);
    a.integer("wire_bytes", m.wire_bytes, 0, most_integer);
    a.field("wire_busy_s", m.wire_busy_s);
    a.integer("network_sent_bytes", m.network_sent_bytes, 0, most_integer);
    a.integer("network_received_bytes", m.network_received_bytes, 0, most_integer);
    a.field("node_energy_j", m.node_energy_j);
    a.integer("memory_bytes", m.memory_bytes, 0, most_integer);
    a.integer("slowest_wire_rank", m.slowest_wire_rank, -1, most_integer);
    a.field("slowest_wire_bytes_per_s", m.slowest_wire_bytes_per_s);
    a.field("gradient_noise_scale", m.gradient_noise_scale);
    a.field("gpu_busy", m.gpu_busy);
    a.field("gpu_memory_bytes", m.gpu_memory_bytes);
    a.field("gpu_power_w", m.gpu_power_w);
    a.field("gpu_temperature_c", m.gpu_temperature_c);
    a.field("gpu_energy_j", m.gpu_energy_j);
  }
};

template <>
struct MessageFields<HeartbeatMessage> {
  static constexpr std::string_view type = "heartbeat";
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.integer("step", m.step, 0, most_integer);
    a.choice("phase", m.phase,
             {"loading", "idle", "connect", "transfer", "data", "compute", "reduce", "commit", "evaluate",
              "save"});
    a.field("seconds", m.seconds);
    a.integer("share", m.share, 0, most_integer);
    a.field("step_ms", m.step_ms);
    a.field("telemetry", m.telemetry);
  }
};

template <>
struct MessageFields<UnpreparedMessage> {
  static constexpr std::string_view type = "unprepared";
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.integer("generation", m.generation, 1, most_integer);
    a.field("message", m.message);
  }
};

template <>
struct MessageFields<LeftMessage> {
  static constexpr std::string_view type = "left";
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.integer("generation", m.generation, 1, most_integer);
    a.integer("applied", m.applied, 0, most_integer);
    a.field("reduced", m.reduced);
    a.field("complete", m.complete);
    a.field("code", m.code);
    a.field("message", m.message);
    a.integer("lost_rank", m.lost_rank, -1, most_integer);
  }
};

template <>
struct MessageFields<StepFigures> {
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.integer("step", m.step, 1, most_integer);
    a.integer("epoch", m.epoch, 1, most_integer);
    a.integer("first", m.first, 0, most_integer);
    a.integer("count", m.count, 0, most_integer);
    a.field("consumed", m.consumed);
    a.field("time", m.time);
    a.field("loss", m.loss);
    a.field("accuracy", m.accuracy);
    a.field("perplexity", m.perplexity);
    a.field("learning_rate", m.learning_rate);
    a.field("gradient_norm", m.gradient_norm);
    a.field("loss_scale", m.loss_scale);
    a.field("samples_per_second", m.samples_per_second);
  }
};

template <>
struct MessageFields<StepsMessage> {
  static constexpr std::string_view type = "steps";
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.objects("steps", m.steps);
  }
};

template <>
struct MessageFields<StopMessage> {
  static constexpr std::string_view type = "stop";
  template <class Archive, class Message>
  static void walk(Archive&, Message&) {}
};

template <>
struct MessageFields<HelloMessage> {
  static constexpr std::string_view type = "hello";
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.field("version", m.version);
  }
};

template <>
struct MessageFields<ProgressMessage> {
  static constexpr std::string_view type = "progress";
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.integer("step", m.step, 0, most_integer);
    a.integer("steps", m.steps, 0, most_integer);
    a.integer("epoch", m.epoch, 0, most_integer);
    a.integer("epochs", m.epochs, 0, most_integer);
    a.integer("epoch_step", m.epoch_step, 0, most_integer);
    a.integer("epoch_steps", m.epoch_steps, 0, most_integer);
    a.field("loss", m.loss);
    a.field("epoch_loss", m.epoch_loss);
    a.field("samples_per_second", m.samples_per_second);
    a.field("seconds_left", m.seconds_left);
  }
};

template <>
struct MessageFields<SharesMessage> {
  static constexpr std::string_view type = "shares";
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.integer("generation", m.generation, 1, most_integer);
    a.integer("step", m.step, 1, most_integer);
    a.integers("shares", m.shares, 1, most_integer);
    a.field("gain", m.gain);
    a.field("reason", m.reason);
  }
};

template <>
struct MessageFields<EvalMessage> {
  static constexpr std::string_view type = "eval";
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.integer("epoch", m.epoch, 0, most_integer);
    a.integer("samples", m.samples, 0, most_integer);
    a.field("loss", m.loss);
    a.field("accuracy", m.accuracy);
    a.field("perplexity", m.perplexity);
  }
};

template <>
struct MessageFields<Percentiles> {
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.field("p50", m.p50);
    a.field("p90", m.p90);
    a.field("p99", m.p99);
  }
};

template <>
struct MessageFields<FinishedMessage> {
  static constexpr std::string_view type = "finished";
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.choice("status", m.status, {"completed", "stopped"});
    a.integer("steps", m.steps, 0, most_integer);
    a.integer("epochs", m.epochs, 0, most_integer);
    a.integer("samples", m.samples, 0, most_integer);
    a.field("seconds", m.seconds);
    a.field("step_ms", m.step_ms);
    a.field("allreduce_ms", m.allreduce_ms);
    a.field("exposed_allreduce_ms", m.exposed_allreduce_ms);
    a.field("data_wait_ms", m.data_wait_ms);
    a.field("data_wait_share", m.data_wait_share);
    a.field("train_loss", m.train_loss);
    a.field("eval", m.eval);
    a.field("weights_sha256", m.weights_sha256);
    a.integer("peak_memory_bytes", m.peak_memory_bytes, -most_integer, most_integer);
    a.integer("rebalances", m.rebalances, 0, most_integer);
  }
};

template <>
struct MessageFields<FailedMessage> {
  static constexpr std::string_view type = "failed";
  template <class Archive, class Message>
  static void walk(Archive& a, Message& m) {
    a.field("code", m.code);
    a.field("message", m.message);
    a.integer("lost_rank", m.lost_rank, -1, most_integer);
  }
};

}  // namespace paceline

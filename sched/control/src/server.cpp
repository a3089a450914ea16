#include "paceline/control/server.hpp"

#include <grpcpp/grpcpp.h>

#include <deque>
#include <map>
#include <mutex>

#include "doorbell.hpp"
#include "limits.hpp"
#include "paceline/base/text.hpp"
#include "paceline/control/control.grpc.pb.h"

namespace paceline::control {
namespace {

class Stream;

/// What gRPC's threads and the owner's thread share.
struct Shared {
  explicit Shared(Doorbell bell) : doorbell(std::move(bell)) {}
  void push(ServerEvent event) {
    const std::lock_guard lock(mutex);
    events.push_back(std::move(event));
    doorbell.ring();
  }

  Doorbell doorbell;
  std::mutex mutex;
  std::vector<ServerEvent> events;
  std::map<StreamId, Stream*> streams;
  struct Question {
    grpc::ServerUnaryReactor* reactor;
    Answer* answer;
  };
  std::map<QuestionId, Question> questions;
  std::uint64_t last_id = 0;
};

/// An agent's stream. gRPC owns it, and ends it in OnDone.
class Stream final : public grpc::ServerBidiReactor<FromAgent, ToAgent> {
 public:
  explicit Stream(Shared& shared) : shared_(shared) {
    {
      const std::lock_guard lock(shared_.mutex);
      id_ = ++shared_.last_id;
      shared_.streams.emplace(id_, this);
    }
    StartRead(&incoming_);
  }

  // The owner's thread, with shared.mutex held, so that this lives.
  void send(const ToAgent& message) {
    const std::lock_guard lock(mutex_);
    if (finished_ || closing_) return;
    if (outgoing_.size() >= most_waiting_messages) return finish(grpc::Status(grpc::RESOURCE_EXHAUSTED, ""));
    outgoing_.push_back(message);
    if (outgoing_.size() == 1) StartWrite(&outgoing_.front());
  }
  void close() {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    if (outgoing_.empty()) finish(grpc::Status::OK);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      const std::lock_guard lock(mutex_);
      return finish(grpc::Status::OK);
    }
    shared_.push(Heard{id_, std::move(incoming_)});
    incoming_ = FromAgent();
    StartRead(&incoming_);
  }
  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    outgoing_.pop_front();
    if (!ok) return finish(grpc::Status::OK);
    if (!outgoing_.empty())
      StartWrite(&outgoing_.front());
    else if (closing_)
      finish(grpc::Status::OK);
  }
  void OnCancel() override {
    const std::lock_guard lock(mutex_);
    finish(grpc::Status::CANCELLED);
  }
  void OnDone() override {
    {
      const std::lock_guard lock(shared_.mutex);
      shared_.streams.erase(id_);
      shared_.events.emplace_back(Closed{id_});
      shared_.doorbell.ring();
    }
    delete this;
  }

 private:
  void finish(const grpc::Status& status) {
    if (!std::exchange(finished_, true)) Finish(status);
  }

  Shared& shared_;
  StreamId id_ = 0;
  FromAgent incoming_;
  std::mutex mutex_;
  std::deque<ToAgent> outgoing_;  // the first is being written
  bool finished_ = false, closing_ = false;
};

class Service final : public Control::CallbackService {
 public:
  explicit Service(Shared& shared) : shared_(shared) {}

  grpc::ServerBidiReactor<FromAgent, ToAgent>* Attend(grpc::CallbackServerContext*) override {
    return new Stream(shared_);
  }
  grpc::ServerUnaryReactor* Ask(grpc::CallbackServerContext* context, const Request* request,
                                Answer* answer) override {
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    const std::lock_guard lock(shared_.mutex);
    const QuestionId id = ++shared_.last_id;
    shared_.questions.emplace(id, Shared::Question{reactor, answer});
    shared_.events.emplace_back(Asked{id, *request});
    shared_.doorbell.ring();
    return reactor;
  }

 private:
  Shared& shared_;
};

class GrpcServer final : public Server {
 public:
  explicit GrpcServer(Doorbell bell) : shared_(std::move(bell)), service_(shared_) {}
  ~GrpcServer() override {
    {
      const std::lock_guard lock(shared_.mutex);
      for (const auto& [id, question] : shared_.questions)
        question.reactor->Finish(grpc::Status(grpc::UNAVAILABLE, "the coordinator ends"));
      shared_.questions.clear();
    }
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
  }

  /// Whether that port could be had.
  bool listen(const std::string& host, std::uint16_t port, const Credentials& credentials) {
    grpc::SslServerCredentialsOptions tls(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    tls.pem_root_certs = credentials.certificate;
    tls.pem_key_cert_pairs.push_back({credentials.key, credentials.certificate});
    grpc::ServerBuilder builder;
    int bound = 0;
    const std::string numeric = host.find(':') == std::string::npos ? host : concat("[", host, "]");
    builder.AddListeningPort(concat(numeric, ":", port), grpc::SslServerCredentials(tls), &bound);
    builder.RegisterService(&service_);
    builder.SetMaxReceiveMessageSize(most_message_bytes);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || bound == 0) return false;
    port_ = static_cast<std::uint16_t>(bound);
    return true;
  }

  std::uint16_t port() const override { return port_; }
  int fd() const override { return shared_.doorbell.fd(); }
  std::vector<ServerEvent> take() override {
    const std::lock_guard lock(shared_.mutex);
    shared_.doorbell.answer();
    return std::exchange(shared_.events, {});
  }
  void send(StreamId stream, const ToAgent& message) override {
    const std::lock_guard lock(shared_.mutex);
    const auto found = shared_.streams.find(stream);
    if (found != shared_.streams.end()) found->second->send(message);
  }
  void close(StreamId stream) override {
    const std::lock_guard lock(shared_.mutex);
    const auto found = shared_.streams.find(stream);
    if (found != shared_.streams.end()) found->second->close();
  }
  void answer(QuestionId question, const Answer& answer) override {
    const std::lock_guard lock(shared_.mutex);
    const auto found = shared_.questions.find(question);
    if (found == shared_.questions.end()) return;
    *found->second.answer = answer;
    found->second.reactor->Finish(grpc::Status::OK);
    shared_.questions.erase(found);
  }

 private:
  Shared shared_;
  Service service_;
  std::unique_ptr<grpc::Server> server_;
  std::uint16_t port_ = 0;
};

}  // namespace

Result<std::unique_ptr<Server>> Server::start(const Address& address, const Credentials& credentials) {
  silence_grpc();
  for (unsigned port = address.first_port; port <= address.last_port; ++port) {
    PACELINE_ASSIGN(Doorbell bell, Doorbell::make());
    auto server = std::make_unique<GrpcServer>(std::move(bell));
    if (server->listen(address.host, static_cast<std::uint16_t>(port), credentials))
      return std::unique_ptr<Server>(std::move(server));
  }
  return Error{ErrorCode::already_exists, concat("the coordinator found no free port on ", address.host,
                                                 address.last_port == 0 ? std::string()
                                                                        : concat(" from ", address.first_port,
                                                                                 " to ", address.last_port),
                                                 ": free one, or name others in PACELINE_PORTS")};
}

}  // namespace paceline::control

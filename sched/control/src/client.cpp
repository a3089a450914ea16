#include "paceline/control/client.hpp"

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <deque>
#include <mutex>

#include "doorbell.hpp"
#include "limits.hpp"
#include "paceline/base/text.hpp"
#include "paceline/control/control.grpc.pb.h"
#include "paceline/control/version.hpp"

namespace paceline::control {
namespace {

std::string name_of(const CoordinatorAddress& address) {
  return concat("the coordinator at ", address.host, ":", address.port, " (term ", address.term, ", pid ",
                address.pid, " on ", address.node, ")");
}

std::unique_ptr<Control::Stub> stub_for(const CoordinatorAddress& address, const Credentials& credentials) {
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = credentials.certificate;
  tls.pem_private_key = credentials.key;
  tls.pem_cert_chain = credentials.certificate;
  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride(certificate_name);
  arguments.SetMaxReceiveMessageSize(most_message_bytes);
  // Each coordinator has a connection of its own, and who tries again does so in its own time.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  const std::string host =
      address.host.find(':') == std::string::npos ? address.host : concat("[", address.host, "]");
  return Control::NewStub(
      grpc::CreateCustomChannel(concat(host, ":", address.port), grpc::SslCredentials(tls), arguments));
}

Error error_of(const grpc::Status& status, const CoordinatorAddress& address) {
  if (status.error_code() == grpc::DEADLINE_EXCEEDED)
    return {ErrorCode::timeout, concat(name_of(address), " does not answer")};
  std::string why = status.error_message();
  return {ErrorCode::peer_lost,
          concat(name_of(address), " is not there", why.empty() ? "" : concat(" (", why, ")"))};
}

class Stream final : public Client, grpc::ClientBidiReactor<FromAgent, ToAgent> {
 public:
  Stream(CoordinatorAddress address, const Credentials& credentials, Doorbell bell)
      : address_(std::move(address)), doorbell_(std::move(bell)), stub_(stub_for(address_, credentials)) {
    stub_->async()->Attend(&context_, this);
    // Writes begin from outside of the reactions, until the stream is done.
    AddHold();
    StartRead(&incoming_);
    StartCall();
  }
  ~Stream() override {
    context_.TryCancel();
    std::unique_lock lock(mutex_);
    release();
    done_changed_.wait(lock, [this] { return done_; });
  }

  int fd() const override { return doorbell_.fd(); }
  std::vector<ToAgent> take() override {
    const std::lock_guard lock(mutex_);
    doorbell_.answer();
    return std::exchange(arrived_, {});
  }
  std::optional<Error> lost() const override {
    const std::lock_guard lock(mutex_);
    return lost_;
  }
  void send(const FromAgent& message) override {
    const std::lock_guard lock(mutex_);
    if (released_ || lost_) return;
    outgoing_.push_back(message);
    if (outgoing_.size() == 1) StartWrite(&outgoing_.front());
  }

  void OnReadDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    if (!ok) return release();
    arrived_.push_back(std::move(incoming_));
    doorbell_.ring();
    incoming_ = ToAgent();
    StartRead(&incoming_);
  }
  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    outgoing_.pop_front();
    if (!ok) return release();
    if (!outgoing_.empty() && !released_) StartWrite(&outgoing_.front());
  }
  void OnDone(const grpc::Status& status) override {
    const std::lock_guard lock(mutex_);
    lost_ = status.ok() ? Error{ErrorCode::peer_lost, concat(name_of(address_), " closed the stream")}
                        : error_of(status, address_);
    done_ = true;
    doorbell_.ring();
    done_changed_.notify_all();
  }

 private:
  void release() {
    if (!std::exchange(released_, true)) RemoveHold();
  }

  const CoordinatorAddress address_;
  Doorbell doorbell_;
  std::unique_ptr<Control::Stub> stub_;
  grpc::ClientContext context_;
  ToAgent incoming_;
  mutable std::mutex mutex_;
  std::condition_variable done_changed_;
  std::vector<ToAgent> arrived_;
  std::deque<FromAgent> outgoing_;  // the first is being written
  std::optional<Error> lost_;
  bool released_ = false, done_ = false;
};

}  // namespace

Result<std::unique_ptr<Client>> Client::open(const CoordinatorAddress& address,
                                             const Credentials& credentials) {
  silence_grpc();
  PACELINE_ASSIGN(Doorbell bell, Doorbell::make());
  return std::unique_ptr<Client>(std::make_unique<Stream>(address, credentials, std::move(bell)));
}

Result<Answer> ask(const CoordinatorAddress& address, const Credentials& credentials, Request request,
                   Duration limit) {
  silence_grpc();
  request.set_version(version);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + limit);
  Answer answer;
  const grpc::Status status = stub_for(address, credentials)->Ask(&context, request, &answer);
  if (!status.ok()) return error_of(status, address);
  return answer;
}

}  // namespace paceline::control

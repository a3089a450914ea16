#include "tokenizer.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "../../tokenizer/frames.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr int poll_period_ms = 100;

Result<std::string> find_program(const std::string& given) {
  std::string program = given;
  if (program.empty()) {
    std::error_code error;
    const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
    if (error) return Error{ErrorCode::unsupported, concat("cannot read /proc/self/exe: ", error.message())};
    program = (self.parent_path() / "paceline-tokenizer").string();
  }
  if (::access(program.c_str(), X_OK) == 0) return program;
  return Error{ErrorCode::unsupported,
               concat("there is no program ", shown(program),
                      ": build Paceline with SentencePiece (libsentencepiece-dev), or import bytes")};
}

/// The attributes of a child that the terminal's signals do not reach: its owner ends it.
class SpawnSettings {
 public:
  explicit SpawnSettings(int socket) {
    posix_spawn_file_actions_init(&actions_);
    posix_spawn_file_actions_adddup2(&actions_, socket, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions_, socket, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions_, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_init(&attributes_);
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setflags(&attributes_,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  [[nodiscard]] const posix_spawn_file_actions_t* actions() const { return &actions_; }
  [[nodiscard]] const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

Error gone() {
  return {ErrorCode::internal, "paceline-tokenizer has ended before its work was done"};
}

Status send_all(int socket, const void* from, std::size_t bytes) {
  const auto* at = static_cast<const char*>(from);
  while (bytes > 0) {
    const ssize_t put = ::send(socket, at, bytes, MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return gone();
    at += put;
    bytes -= static_cast<std::size_t>(put);
  }
  return {};
}

Status receive_all(int socket, void* into, std::size_t bytes, const std::function<Status()>& cancelled) {
  auto* at = static_cast<char*>(into);
  while (bytes > 0) {
    pollfd entry{socket, POLLIN, 0};
    const int ready = ::poll(&entry, 1, poll_period_ms);
    if (ready <= 0) {
      PACELINE_TRY(cancelled());
      continue;
    }
    const ssize_t got = ::recv(socket, at, bytes, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return gone();
    at += got;
    bytes -= static_cast<std::size_t>(got);
  }
  return {};
}

Status never() {
  return {};
}

}  // namespace

Result<TokenizerProcess> TokenizerProcess::start(const std::string& given,
                                                 const std::vector<std::string>& arguments) {
  PACELINE_ASSIGN(std::string program, find_program(given));
  int sockets[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0)
    return system_error("cannot make a socket for paceline-tokenizer");
  TokenizerProcess process;
  process.socket_.reset(sockets[0]);
  const UniqueFd theirs(sockets[1]);
  std::vector<std::string> words = arguments;
  std::vector<char*> argv = {program.data()};
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const SpawnSettings settings(theirs.get());
  const int error = ::posix_spawn(&process.pid_, program.c_str(), settings.actions(), settings.attributes(),
                                  argv.data(), environ);
  if (error == 0) return process;
  process.pid_ = -1;
  return system_error(concat("cannot start ", shown(program)), error);
}

TokenizerProcess::TokenizerProcess(TokenizerProcess&& other) noexcept
    : socket_(std::move(other.socket_)), pid_(std::exchange(other.pid_, -1)) {
}

TokenizerProcess::~TokenizerProcess() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

Status TokenizerProcess::send(std::uint32_t kind, std::span<const std::byte> content) {
  if (content.size() > tokenizer_frame_limit)
    return Error{ErrorCode::unsupported, "a text of more than 1 GiB can't be made into tokens at once"};
  const TokenizerFrame frame{kind, static_cast<std::uint32_t>(content.size())};
  PACELINE_TRY(send_all(socket_.get(), &frame, sizeof frame));
  return send_all(socket_.get(), content.data(), content.size());
}

Result<TokenizerProcess::Answer> TokenizerProcess::receive(const std::function<Status()>& cancelled) {
  TokenizerFrame frame;
  PACELINE_TRY(receive_all(socket_.get(), &frame, sizeof frame, cancelled));
  if (frame.bytes > tokenizer_frame_limit) return gone();
  Answer answer{frame.kind, std::string(frame.bytes, '\0')};
  PACELINE_TRY(receive_all(socket_.get(), answer.content.data(), answer.content.size(), cancelled));
  return answer;
}

Result<Tokenizer> Tokenizer::open(const std::string& program, const std::string& model) {
  if (::access(model.c_str(), R_OK) != 0)
    return Error{ErrorCode::not_found,
                 system_error(concat("cannot open the tokenizer ", shown(model))).message};
  PACELINE_ASSIGN(TokenizerProcess process, TokenizerProcess::start(program, {"serve", model}));
  Tokenizer tokenizer(std::move(process), shown(model));
  const Result<TokenizerProcess::Answer> ready = tokenizer.process_.receive(never);
  std::int32_t numbers[2];
  if (!ready.ok() || ready->kind != tokenizer_ready || ready->content.size() != sizeof numbers)
    return Error{ErrorCode::corrupt, concat(tokenizer.model_,
                                            ": it is no SentencePiece model: give a .model file "
                                            "that SentencePiece wrote, or train:VOCABULARY")};
  std::memcpy(numbers, ready->content.data(), sizeof numbers);
  tokenizer.vocabulary_ = numbers[0];
  tokenizer.separator_ = numbers[1];
  return tokenizer;
}

Result<std::string> Tokenizer::ask(std::uint32_t kind, std::span<const std::byte> content,
                                   std::uint32_t wanted) {
  PACELINE_TRY(process_.send(kind, content));
  PACELINE_ASSIGN(TokenizerProcess::Answer answer, process_.receive(never));
  if (answer.kind == wanted) return std::move(answer.content);
  return Error{ErrorCode::internal, concat(model_, ": ", shown(answer.content))};
}

Result<std::vector<std::int32_t>> Tokenizer::encode(std::string_view text) {
  PACELINE_ASSIGN(const std::string answer,
                  ask(tokenizer_text, std::as_bytes(std::span(text)), tokenizer_ids));
  std::vector<std::int32_t> tokens(answer.size() / sizeof(std::int32_t));
  std::memcpy(tokens.data(), answer.data(), tokens.size() * sizeof(std::int32_t));
  return tokens;
}

Result<std::string> Tokenizer::decode(std::span<const std::int32_t> tokens) {
  return ask(tokenizer_ids, std::as_bytes(tokens), tokenizer_text);
}

Result<std::string> train_tokenizer(const std::string& program, std::int64_t vocabulary, int threads,
                                    const std::function<Result<std::string>()>& next,
                                    const std::function<Status()>& cancelled) {
  PACELINE_ASSIGN(TokenizerProcess process,
                  TokenizerProcess::start(program, {"train", concat(vocabulary), concat(threads)}));
  while (true) {
    PACELINE_TRY(cancelled());
    PACELINE_ASSIGN(const std::string text, next());
    PACELINE_TRY(process.send(tokenizer_text, std::as_bytes(std::span(text))));
    if (text.empty()) break;
  }
  PACELINE_ASSIGN(TokenizerProcess::Answer answer, process.receive(cancelled));
  if (answer.kind == tokenizer_model) return std::move(answer.content);
  return Error{ErrorCode::invalid_argument,
               concat("cannot train a tokenizer with ", vocabulary, " tokens: ", shown(answer.content))};
}

}  // namespace paceline

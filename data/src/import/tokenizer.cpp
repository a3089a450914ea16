#include "tokenizer.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <thread>
#include <utility>

#include "../../tokenizer/frames.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

const SteadyClock steady_clock;

constexpr int poll_period_ms = 100;
// A text is encoded at some MiB in a second, and a vocabulary of 8 MiB of text is learned in a minute or so.
// These are for machines that are busy with much else.
constexpr std::int64_t slowest_bytes_per_s = 64 << 10;
constexpr Duration longest_learning = std::chrono::hours(2);
constexpr Duration farewell = std::chrono::seconds(5);  // of a killed process

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

Duration work_on(std::size_t bytes) {
  return std::chrono::seconds(static_cast<std::int64_t>(bytes) / slowest_bytes_per_s);
}

}  // namespace

Result<TokenizerProcess> TokenizerProcess::start(const std::string& given,
                                                 const std::vector<std::string>& arguments,
                                                 TokenizerPatience patience) {
  PACELINE_ASSIGN(std::string program, find_program(given));
  int sockets[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0)
    return system_error("cannot make a socket for paceline-tokenizer");
  TokenizerProcess process;
  process.program_ = program;
  process.patience_ = std::move(patience);
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
    : program_(std::move(other.program_)),
      patience_(std::move(other.patience_)),
      socket_(std::move(other.socket_)),
      pid_(std::exchange(other.pid_, -1)) {
}

TokenizerProcess::~TokenizerProcess() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  // One that hangs in the kernel, on a filesystem that does not answer, outlives us.
  const Deadline deadline(steady_clock, farewell);
  while (::waitpid(pid_, nullptr, WNOHANG) == 0 && !deadline.passed())
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

/// Until the socket has or takes bytes.
Status TokenizerProcess::wait_until_ready(short events, Duration at_most) const {
  const Deadline deadline(steady_clock, at_most);
  pollfd entry{socket_.get(), events, 0};
  while (::poll(&entry, 1, std::min(poll_period_ms, deadline.left_ms())) <= 0) {
    if (patience_.cancelled) PACELINE_TRY(patience_.cancelled());
    if (deadline.passed())
      return Error{ErrorCode::timeout,
                   concat(shown(program_), " has not answered for ", to_seconds(at_most),
                          " s: see that it is the paceline-tokenizer of this build and that the machine has "
                          "time and memory for it, then try again")};
  }
  return {};
}

Status TokenizerProcess::send_all(const void* from, std::size_t bytes) {
  const auto* at = static_cast<const char*>(from);
  while (bytes > 0) {
    PACELINE_TRY(wait_until_ready(POLLOUT, patience_.silence));
    const ssize_t put = ::send(socket_.get(), at, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (put <= 0) return gone();
    at += put;
    bytes -= static_cast<std::size_t>(put);
  }
  return {};
}

Status TokenizerProcess::receive_all(void* into, std::size_t bytes, Duration work) {
  auto* at = static_cast<char*>(into);
  while (bytes > 0) {
    PACELINE_TRY(wait_until_ready(POLLIN, patience_.silence + work));
    const ssize_t got = ::recv(socket_.get(), at, bytes, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return gone();
    at += got;
    bytes -= static_cast<std::size_t>(got);
  }
  return {};
}

Status TokenizerProcess::send(std::uint32_t kind, std::span<const std::byte> content) {
  if (content.size() > tokenizer_frame_limit)
    return Error{ErrorCode::unsupported, "a text of more than 1 GiB can't be made into tokens at once"};
  const TokenizerFrame frame{kind, static_cast<std::uint32_t>(content.size())};
  PACELINE_TRY(send_all(&frame, sizeof frame));
  return send_all(content.data(), content.size());
}

Result<TokenizerProcess::Answer> TokenizerProcess::receive(Duration work) {
  TokenizerFrame frame;
  PACELINE_TRY(receive_all(&frame, sizeof frame, work));
  if (frame.bytes > tokenizer_frame_limit) return gone();
  Answer answer{frame.kind, std::string(frame.bytes, '\0')};
  PACELINE_TRY(receive_all(answer.content.data(), answer.content.size(), {}));
  return answer;
}

Result<Tokenizer> Tokenizer::open(const std::string& program, const std::string& model,
                                  TokenizerPatience patience) {
  if (::access(model.c_str(), R_OK) != 0)
    return Error{ErrorCode::not_found,
                 system_error(concat("cannot open the tokenizer ", shown(model))).message};
  PACELINE_ASSIGN(TokenizerProcess process,
                  TokenizerProcess::start(program, {"serve", model}, std::move(patience)));
  Tokenizer tokenizer(std::move(process), shown(model));
  const Result<TokenizerProcess::Answer> ready = tokenizer.process_.receive();
  if (!ready.ok() && ready.error().code != ErrorCode::internal) return ready.error();  // else it has ended
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
  PACELINE_ASSIGN(TokenizerProcess::Answer answer, process_.receive(work_on(content.size())));
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
                                    const TokenizerPatience& patience) {
  PACELINE_ASSIGN(TokenizerProcess process,
                  TokenizerProcess::start(program, {"train", concat(vocabulary), concat(threads)}, patience));
  while (true) {
    if (patience.cancelled) PACELINE_TRY(patience.cancelled());
    PACELINE_ASSIGN(const std::string text, next());
    PACELINE_TRY(process.send(tokenizer_text, std::as_bytes(std::span(text))));
    if (text.empty()) break;
  }
  PACELINE_ASSIGN(TokenizerProcess::Answer answer, process.receive(longest_learning));
  if (answer.kind == tokenizer_model) return std::move(answer.content);
  return Error{ErrorCode::invalid_argument,
               concat("cannot train a tokenizer with ", vocabulary, " tokens: ", shown(answer.content))};
}

}  // namespace paceline

// A running job, live in a terminal.
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <thread>

#include "commands.hpp"
#include "paceline/base/text.hpp"
#include "run_directory.hpp"
#include "seeing/full_screen.hpp"
#include "seeing/top_source.hpp"
#include "terminal.hpp"

namespace paceline {
namespace {

Error nothing_to_see(const std::string& run_dir, const TopLook& look) {
  return {ErrorCode::not_found, concat(shown(run_dir), ": ", look.ended.empty() ? look.problem : look.ended)};
}

/// Two looks, for what is only known between two.
Status look_once(const std::string& run_dir, Duration interval) {
  TopSource source(run_dir);
  TopView view;
  const TopLook first = source.look();
  if (!first.status) return nothing_to_see(run_dir, first);
  view.take(first);
  std::this_thread::sleep_for(interval);
  view.take(source.look());
  std::string text;
  for (const ScreenLine& line : view.screen(0, 0)) text += line.text + "\n";
  return write_all(STDOUT_FILENO, text, "standard output");
}

/// Signals as something to poll for; threads that are begun after it leave them alone too.
UniqueFd take_signals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP})
    ::sigaddset(&signals, number);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return UniqueFd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
}

/// One person at a terminal.
class Session {
 public:
  Session(const std::string& run_dir, Duration interval)
      : run_dir_(run_dir), signals_(take_signals()), watch_(run_dir, interval), screen_(STDOUT_FILENO) {}

  /// The exit code. The terminal is as it was before.
  int run() {
    screen_.enter();
    while (!over_) {
      draw();
      wait();
    }
    screen_.leave();
    if (!last_words_.empty()) std::printf("%s: %s\n", shown(run_dir_).c_str(), last_words_.c_str());
    std::fflush(stdout);
    return code_;
  }

 private:
  void draw() {
    const FullScreen::Size size = screen_.size();
    screen_.show(view_.screen(size.width, size.height));
  }

  void wait() {
    std::array<pollfd, 3> entries = {
        {{STDIN_FILENO, POLLIN, 0}, {signals_.get(), POLLIN, 0}, {watch_.fd(), POLLIN, 0}}};
    if (::poll(entries.data(), entries.size(), -1) < 0) return;
    if (entries[1].revents != 0) hear_signals();
    if (entries[2].revents != 0) see();
    if (entries[0].revents != 0) read_keys();
  }

  void see() {
    const std::optional<TopLook> look = watch_.take();
    if (!look) return;
    view_.take(*look);
    if (look->ended.empty()) return;
    over_ = true;
    last_words_ = look->ended;
  }

  void read_keys() {
    std::array<char, 256> bytes{};
    const ssize_t got = ::read(STDIN_FILENO, bytes.data(), bytes.size());
    if (got <= 0) return end(exit_done);  // the terminal is gone
    for (const Key key : keys_.take({bytes.data(), static_cast<std::size_t>(got)})) {
      if (key == Key::quit) return end(exit_done);
      view_.press(key);
    }
  }

  void hear_signals() {
    signalfd_siginfo heard{};
    while (::read(signals_.get(), &heard, sizeof heard) == sizeof heard) {
      const int number = static_cast<int>(heard.ssi_signo);
      if (number == SIGTSTP)
        pause();
      else if (number != SIGWINCH)
        return end(128 + number);
    }
  }

  /// Ctrl-Z: the shell gets its terminal, until it wants us again.
  void pause() {
    screen_.leave();
    ::kill(::getpid(), SIGSTOP);
    screen_.enter();
  }

  void end(int code) {
    over_ = true;
    code_ = code;
  }

  std::string run_dir_;
  UniqueFd signals_;
  TopWatch watch_;
  FullScreen screen_;
  KeyReader keys_;
  TopView view_;
  std::string last_words_;
  bool over_ = false;
  int code_ = exit_done;
};

/// There is somebody to be asked, or there will be.
Status check_is_alive(const std::string& run_dir) {
  TopSource source(run_dir);
  const TopLook look = source.look();
  return look.ended.empty() ? Status() : nothing_to_see(run_dir, look);
}

}  // namespace

int show_top(const TopOptions& options) {
  const std::string run_dir = absolute_path(options.run_dir);
  if (const Status run = check_is_run(run_dir); !run.ok()) return complain(run.error());
  const auto interval =
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>(options.interval_s));
  if (options.once || !FullScreen::is_possible()) {
    const Status looked = look_once(run_dir, interval);
    return looked.ok() ? int{exit_done} : complain(looked.error());
  }
  if (const Status alive = check_is_alive(run_dir); !alive.ok()) return complain(alive.error());
  const int code = Session(run_dir, interval).run();
  return code;
}

}  // namespace paceline

"""Runs programs side by side, each on its own cores, within a deadline, and leaves none of them behind."""

import ctypes
import os
import select
import signal
import subprocess
import tempfile
import time

GRACE_S = 5  # between asking a program to leave and killing it


class RunFailed(Exception):
    """One sentence; `status` is what the driver should exit with."""

    def __init__(self, sentence, status=1):
        super().__init__(sentence)
        self.status = status


def _prepare(cores, parent):
    """What the child does before exec: its cores, and an end when the driver is killed."""
    libc = ctypes.CDLL(None)  # loaded before the fork

    def in_child():
        pr_set_pdeathsig = 1
        libc.prctl(pr_set_pdeathsig, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)
        if cores:
            os.sched_setaffinity(0, cores)

    return in_child


def _start(command, cores, directory, output, show_errors):
    try:
        return subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=output,
                                stderr=None if show_errors else output, start_new_session=True,
                                preexec_fn=_prepare(cores, os.getpid()))
    except OSError as error:
        raise RunFailed(f"{command[0]} can't be started: {error.strerror}", status=2) from None


def _kill(processes):
    """Asks first, so that a launcher takes its own children along; then the group, whatever is in it."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + GRACE_S
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _text(output):
    output.seek(0)
    return output.read().decode(errors="replace").strip()


def _check(process, command, output):
    if process.returncode == 0:
        return
    how = f"exit status {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
    words = " / ".join(line.strip() for line in _text(output).splitlines()[-3:])
    raise RunFailed(f"`{' '.join(command)}` ended with {how}" + (f": {words}" if words else ""),
                    status=2 if process.returncode == 2 else 1)


def run(commands, directory, timeout_s, show_errors=False):
    """Runs [(command, cores), ...] at the same time until all have ended; the first failure ends all.

    Gives what each one printed; with show_errors its stderr goes to ours, for programs that take their time.

    Sleeps on the processes themselves: a driver that polls would take time from what it measures.
    """
    deadline = time.monotonic() + timeout_s
    started, outputs, pidfds = [], [], {}
    waiter = select.poll()
    try:
        for command, cores in commands:
            outputs.append(tempfile.TemporaryFile())
            started.append(_start(command, cores, directory, outputs[-1], show_errors))
            pidfd = os.pidfd_open(started[-1].pid)
            pidfds[pidfd] = len(started) - 1
            waiter.register(pidfd, select.POLLIN)
        running = len(started)
        while running:
            ready = waiter.poll(max(0.0, deadline - time.monotonic()) * 1e3)
            if not ready:
                raise RunFailed(f"`{' '.join(commands[0][0])}` took longer than {timeout_s} s: see whether "
                                "it hangs, or give it more with --timeout")
            for pidfd, _ in ready:
                waiter.unregister(pidfd)
                index = pidfds[pidfd]
                started[index].wait()
                _check(started[index], commands[index][0], outputs[index])
                running -= 1
        return [_text(output) for output in outputs]
    finally:
        _kill(started)
        for handle in pidfds:
            os.close(handle)
        for output in outputs:
            output.close()

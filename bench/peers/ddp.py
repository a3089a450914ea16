#!/usr/bin/python3
"""Trains Fashion-MNIST with PyTorch DistributedDataParallel over Gloo on CPU cores, and times its steps.

The peer that bench/compare_ddp.py sets Paceline against; docs/benchmarks.md says why the defaults below are
the fastest that we found for it. Exit status: 0 done, 1 the run failed, 2 bad usage or something is missing.
"""

import argparse
import ctypes
import datetime
import json
import math
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import signal
import socket
import statistics
import sys
import time

# Before numpy and torch load, which read these once.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))
from command_line import (BAD_USAGE, FAILED, INTERRUPTED, Parser, Refused, stop_by_signal, whole_number,
                          write_json)

try:
    import torch
    import torch.distributed
    from torch import nn

    import fashion_mnist
except ImportError as missing:
    print(f"ddp.py: {sys.executable} can't load PyTorch ({missing}): install it with "
          "`apt-get install python3-torch`, and run this with /usr/bin/python3", file=sys.stderr)
    sys.exit(BAD_USAGE)

COLLECTIVE_TIMEOUT_S = 60

# The activations of a batch are larger than what glibc keeps: without these it hands them back to the kernel
# in every step and faults them in again (cnn, batch 256: 16,000 page faults per step).
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "2147483648"}


# ---- one process -----------------------------------------------------------------------------------


def make_model(kind):
    """The networks of `paceline train`, layer by layer: 105,866 and 5,824,522 parameters."""
    if kind == "cnn":
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(1568, 64), nn.ReLU(), nn.Linear(64, 10))
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 10))


def train(model, stream, options):
    """Milliseconds of each measured step, from the end of the one before it, and the loss of every step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    loss_of = nn.CrossEntropyLoss()
    step_ms, losses = [], []
    begin = time.perf_counter()
    for _ in range(options.warmup + options.steps):
        values, labels = next(stream)
        if options.channels_last:
            values = values.contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model(values), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        end = time.perf_counter()
        step_ms.append((end - begin) * 1e3)
        begin = end
    return step_ms[options.warmup:], torch.stack(losses).tolist()


def wrap(model, index, options, port):
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=index, world_size=options.processes,
        timeout=datetime.timedelta(seconds=COLLECTIVE_TIMEOUT_S))
    return nn.parallel.DistributedDataParallel(
        model, bucket_cap_mb=options.bucket_cap_mb, gradient_as_bucket_view=options.bucket_view,
        broadcast_buffers=False)


def run_process(index, options, port, wait_for_others):
    """What process `index` does: its figures."""
    os.sched_setaffinity(0, {options.cores[index]})  # before there are threads: they inherit it
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    model = make_model(options.model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)
    data = fashion_mnist.Data(options.data)
    if not options.independent:
        model = wrap(model, index, options, port)
    stream = fashion_mnist.batches(data, options.batch, index, options.processes, options.seed)
    wait_for_others()
    step_ms, losses = train(model, stream, options)
    if not options.independent:
        torch.distributed.destroy_process_group()
    if not all(map(math.isfinite, losses)):
        raise RuntimeError("the loss is not finite, so the step times mean nothing")
    tenth = max(1, len(losses) // 10)
    return {"process": index, "core": options.cores[index], "parameters": parameters, "step_ms": step_ms,
            "first_loss": statistics.fmean(losses[:tenth]), "last_loss": statistics.fmean(losses[-tenth:])}


def process_main(index, options, port, barrier, pipe):
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)  # a parent that is killed leaves nothing behind
    if os.getppid() != options.parent:
        os._exit(FAILED)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent answers for all
    try:
        status, answer = 0, run_process(index, options, port, lambda: barrier.wait(COLLECTIVE_TIMEOUT_S))
    except Refused as error:
        status, answer = BAD_USAGE, str(error)
    except Exception as error:  # a library's trace helps nobody: the parent says it in one sentence
        words = f"{type(error).__name__} {error}".strip().splitlines()[0]
        status, answer = FAILED, f"process {index} on core {options.cores[index]} failed: {words}"
    pipe.send((status, answer))
    pipe.close()
    sys.exit(status)


# ---- the parent ------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def collect(started, deadline):
    """(0, every process's answer), or the status and sentence of the first that fails."""
    answers = [None] * len(started)
    waiting = {pipe: index for index, (_, pipe) in enumerate(started)}
    while waiting:
        ready = multiprocessing.connection.wait(list(waiting), max(0.0, deadline - time.monotonic()))
        if not ready:
            return FAILED, "the run took longer than --timeout allows: give it more seconds, or fewer --steps"
        for pipe in ready:
            index = waiting.pop(pipe)
            try:
                status, answers[index] = pipe.recv()
            except EOFError:
                process = started[index][0]
                process.join(5)
                return FAILED, f"process {index} died without a word, with exit code {process.exitcode}"
            if status != 0:
                return status, answers[index]
    for process, _ in started:
        process.join(5)
    return 0, answers


def run_all(options):
    deadline = time.monotonic() + options.timeout
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(options.processes)  # held until the end: children open it by name
    port = free_port()
    started = []
    try:
        for index in range(options.processes):
            reader, writer = context.Pipe(duplex=False)
            process = context.Process(target=process_main, args=(index, options, port, barrier, writer))
            process.start()
            writer.close()
            started.append((process, reader))
        return collect(started, deadline)
    finally:
        for process, _ in started:
            process.kill()
            process.join()


# ---- what is said of it ----------------------------------------------------------------------------


def percentile(values, fraction):
    """The nearest rank: the smallest value that `fraction` of all do not exceed."""
    return sorted(values)[max(0, math.ceil(fraction * len(values)) - 1)]


def process_figures(answer, own_batch):
    step_ms = answer["step_ms"]
    return {"process": answer["process"], "core": answer["core"],
            "step_ms": {"min": min(step_ms), "p50": percentile(step_ms, 0.5),
                        "p90": percentile(step_ms, 0.9)},
            "samples_per_second": own_batch * len(step_ms) / (sum(step_ms) / 1e3),
            "first_loss": answer["first_loss"], "last_loss": answer["last_loss"]}


def summary(options, answers):
    """The figures of --json. Ranks go in step, so rank 0 speaks for all; the independent are averaged."""
    processes = [process_figures(answer, options.batch // options.processes) for answer in answers]
    step_ms = processes[0]["step_ms"]
    samples_per_second = processes[0]["samples_per_second"] * options.processes
    if options.independent:
        step_ms = {key: statistics.fmean(one["step_ms"][key] for one in processes) for key in step_ms}
        samples_per_second = sum(one["samples_per_second"] for one in processes)
    return {"program": "independent" if options.independent else "ddp", "model": options.model,
            "parameters": answers[0]["parameters"], "ranks": options.processes, "batch": options.batch,
            "steps": options.steps, "warmup": options.warmup, "step_ms": step_ms,
            "samples_per_second": samples_per_second, "processes": processes, "torch": torch.__version__,
            "settings": {"bucket_cap_mb": options.bucket_cap_mb, "bucket_view": options.bucket_view,
                         "channels_last": options.channels_last, "keep_memory": options.keep_memory}}


def report(result):
    def line(name, figures):
        step_ms = figures["step_ms"]
        print(f"{name}: step p50 {step_ms['p50']:.2f} ms, p90 {step_ms['p90']:.2f} ms, "
              f"min {step_ms['min']:.2f} ms, {figures['samples_per_second']:.0f} samples/s")

    if result["program"] == "ddp":
        line(f"DDP {result['model']}, {result['ranks']} rank{'s' if result['ranks'] > 1 else ''}", result)
        return
    for one in result["processes"]:
        line(f"{result['model']} by itself, process {one['process']} on core {one['core']}", one)
    line(f"{result['model']} by itself, mean of {result['ranks']}", result)


# ---- command line ----------------------------------------------------------------------------------


def parse_arguments():
    parser = Parser(description=__doc__.splitlines()[0])
    flag, count = argparse.BooleanOptionalAction, whole_number(1)
    parser.add_argument("--version", action="version", version=f"torch {torch.__version__}")
    parser.add_argument("--ranks", type=count, default=2, help="ranks of one DDP job (default 2)")
    parser.add_argument("--independent", type=count, metavar="N",
                        help="instead: N trainings side by side that do not communicate")
    parser.add_argument("--model", choices=("cnn", "mlp"), default="cnn")
    parser.add_argument("--batch", type=count, default=256,
                        help="samples per step over all processes (default 256)")
    parser.add_argument("--steps", type=count, default=200, help="measured steps (default 200)")
    parser.add_argument("--warmup", type=whole_number(0), default=20, help="steps before them (default 20)")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--data", metavar="DIR", default=fashion_mnist.FOLDER, help="folder of the IDX files")
    parser.add_argument("--cores", metavar="A,B",
                        help="one core per process (default: the first allowed ones)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=count, default=600, metavar="SECONDS",
                        help="of the whole run (default 600)")
    parser.add_argument("--bucket-cap-mb", type=count, default=25, help="(default 25)")
    parser.add_argument("--bucket-view", action=flag, default=True, help="gradient_as_bucket_view")
    parser.add_argument("--channels-last", action=flag, help="memory layout of images (default: for cnn)")
    parser.add_argument("--keep-memory", action=flag, default=True,
                        help="glibc keeps freed memory between steps")
    return parser.parse_args()


def resolve(options):
    """Fills in what depends on other options or on the machine."""
    options.processes = options.independent or options.ranks
    options.parent = os.getpid()
    if options.channels_last is None:
        options.channels_last = options.model == "cnn"
    if options.batch % options.processes != 0:
        raise Refused(f"--batch {options.batch} does not divide evenly over {options.processes} processes: "
                      "give a multiple")
    allowed = sorted(os.sched_getaffinity(0))
    try:
        options.cores = [int(core) for core in options.cores.split(",")] if options.cores else allowed
    except ValueError:
        raise Refused(f"--cores {options.cores} is not a list of core numbers: write it as in 0,1") from None
    if not set(options.cores) <= set(allowed):
        raise Refused(f"--cores {options.cores} has cores that this process may not use: "
                      f"choose among {allowed}")
    if len(set(options.cores)) < options.processes:
        raise Refused(f"{options.processes} processes need a core each, but there are "
                      f"{len(set(options.cores))}: run fewer")
    if options.keep_memory:
        os.environ.update(KEEP_MEMORY)  # for the children: glibc reads it when they start
    if options.json:
        write_json(options.json, "")


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, stop_by_signal)
    try:
        resolve(options)
        status, answers = run_all(options)
        if status != 0:
            print(f"ddp.py: {answers}", file=sys.stderr)
            return status
        result = summary(options, answers)
        report(result)
        if options.json:
            write_json(options.json, json.dumps(result, indent=2) + "\n")
    except Refused as error:
        print(f"ddp.py: {error}", file=sys.stderr)
        return BAD_USAGE
    except KeyboardInterrupt:
        print("ddp.py: stopped by a signal; its processes are gone", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())

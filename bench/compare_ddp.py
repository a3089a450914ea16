#!/usr/bin/python3
"""Times Paceline and PyTorch DDP in turn: the same network, data and batch, one core per rank.

docs/benchmarks.md says what is compared and how to read it. Exit status: 0 measured (whatever the figures
say), 1 a run failed, 2 bad usage or something is missing, 130 stopped by a signal.
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import sys
import tempfile

import bounded
import machine
from bounded import RunFailed
from command_line import BAD_USAGE, INTERRUPTED, Parser, Refused, stop_by_signal, whole_number, write_json

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD_TIMEOUT_S = 3600

# What the ratios have to reach; None: shown, but nothing is promised.
TARGETS = {
    ("cnn", "1 rank"): 1.0, ("cnn", "2 ranks"): 1.0, ("cnn", "side by side"): 0.97,
    ("mlp", "1 rank"): None, ("mlp", "2 ranks"): 1.35, ("mlp", "side by side"): None,
}


# ---- contenders: each one measures itself once and gives [(step_ms, batch), ...], one per training ----


def read_figures(path, program):
    """The summary that a program wrote, with the two figures that we compare."""
    try:
        with open(path, encoding="utf-8") as file:
            summary = json.load(file)
        step_ms = {"p50": float(summary["step_ms"]["p50"]), "p90": float(summary["step_ms"]["p90"])}
        samples_per_second = float(summary["samples_per_second"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFailed(f"{program} ended well, but its summary {path} has no usable step_ms.p50, "
                        f"step_ms.p90 and samples_per_second ({type(error).__name__}: {error})") from None
    if not (step_ms["p50"] > 0 and samples_per_second > 0):
        raise RunFailed(f"{program} reports a step of {step_ms['p50']} ms and {samples_per_second} "
                        "samples/s, which cannot be: it measured nothing")
    return {"step_ms": step_ms, "samples_per_second": samples_per_second}


def run_ddp(options, model, ranks, folder):
    out = os.path.join(folder, "ddp.json")
    command = [sys.executable, options.peer, "--ranks", str(ranks), "--model", model,
               "--batch", str(options.batch), "--steps", str(options.steps), "--warmup", str(options.warmup),
               "--timeout", str(options.timeout), "--cores", ",".join(map(str, options.cores[:ranks])),
               "--json", out, *options.peer_settings]
    bounded.run([(command, None)], ROOT, options.timeout + bounded.GRACE_S)
    return [dict(read_figures(out, "ddp.py"), batch=options.batch)]


def paceline_command(options, model, ranks, batch, folder, name):
    return [options.paceline, "train", options.job, "--ranks", str(ranks), "--threads", "1",
            "--set", f"model={model}", "--set", f"batch.global={batch}", "--set", "epochs=1",
            "--set", "eval_every=0", "--set", "data.eval=\"\"", "--run-dir", os.path.join(folder, name),
            "--json", os.path.join(folder, f"{name}.json"), "--quiet"]


def run_paceline(options, model, ranks, folder):
    command = paceline_command(options, model, ranks, options.batch, folder, "run")
    bounded.run([(command, set(options.cores[:ranks]))], ROOT, options.timeout)
    return [dict(read_figures(os.path.join(folder, "run.json"), "paceline"), batch=options.batch)]


def run_side_by_side(options, model, _, folder):
    """Two trainings that know nothing of each other, half the batch each: what communication could lose."""
    half = options.batch // 2
    names = ["run-0", "run-1"]
    bounded.run([(paceline_command(options, model, 1, half, folder, name), {core})
                 for name, core in zip(names, options.cores)], ROOT, options.timeout)
    return [dict(read_figures(os.path.join(folder, f"{name}.json"), "paceline"), batch=half)
            for name in names]


CONTENDERS = [
    ("DDP, 1 rank", run_ddp, 1),
    ("Paceline, 1 rank", run_paceline, 1),
    ("DDP, 2 ranks", run_ddp, 2),
    ("Paceline, 2 ranks", run_paceline, 2),
    ("Paceline, 2 side by side", run_side_by_side, 2),
]


# ---- rounds ----------------------------------------------------------------------------------------


def combine(trainings):
    """One round's figures of a contender; the rate of its median steps is what ratios are made of."""
    return {
        "step_ms": statistics.fmean(one["step_ms"]["p50"] for one in trainings),
        "step_ms_p90": statistics.fmean(one["step_ms"]["p90"] for one in trainings),
        "samples_per_second": sum(one["batch"] / one["step_ms"]["p50"] * 1e3 for one in trainings),
        "samples_per_second_of_whole_run": sum(one["samples_per_second"] for one in trainings),
        "trainings": trainings,
    }


def measure(options, model):
    """{contender: [one entry per round]}. Every second round goes backwards: a drift favours nobody."""
    rounds = {name: [] for name, _, _ in CONTENDERS}
    for number in range(options.rounds):
        for name, run, ranks in CONTENDERS if number % 2 == 0 else reversed(CONTENDERS):
            with tempfile.TemporaryDirectory(prefix="paceline-compare-") as folder:
                figures = combine(run(options, model, ranks, folder))
            rounds[name].append(figures)
            print(f"{model}, round {number + 1} of {options.rounds}: {name}: {figures['step_ms']:.2f} ms "
                  "per step", file=sys.stderr, flush=True)
    return rounds


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio(model, kind, title, rounds, ours, theirs):
    """Taken within each round, where both ran under the same conditions, and only then over the rounds."""
    values = [a["samples_per_second"] / b["samples_per_second"] for a, b in zip(rounds[ours], rounds[theirs])]
    target = TARGETS[model, kind]
    over = spread(values)
    met = None if target is None else over["median"] >= target
    return {"title": title, **over, "target": target, "met": met}


def judge(model, rounds):
    figures = {}
    for name, entries in rounds.items():
        figures[name] = {key: spread([entry[key] for entry in entries]) for key in (
            "step_ms", "step_ms_p90", "samples_per_second", "samples_per_second_of_whole_run")}
        figures[name]["rounds"] = entries
    ratios = [
        ratio(model, "1 rank", "Paceline / DDP, 1 rank", rounds, "Paceline, 1 rank", "DDP, 1 rank"),
        ratio(model, "2 ranks", "Paceline / DDP, 2 ranks", rounds, "Paceline, 2 ranks", "DDP, 2 ranks"),
        ratio(model, "side by side", "Paceline, 2 ranks / side by side", rounds, "Paceline, 2 ranks",
              "Paceline, 2 side by side"),
    ]
    return {"contenders": figures, "ratios": ratios}


# ---- what is said of it ----------------------------------------------------------------------------


def verdict(one):
    if one["target"] is None:
        return "no target"
    return f"target >= {one['target']:.2f}: {'met' if one['met'] else 'not met'}"


def report(result):
    print(machine.describe(result["machine"]))
    rounds = result["settings"]["rounds"]
    for model, figures in result["models"].items():
        print(f"\n{model}, global batch {result['settings']['batch']}, one core per rank; medians of "
              f"{rounds} round{'s' if rounds > 1 else ''}, with the least and the most")
        print(f"  {'':<34}{'step ms':>9}   {'least..most':<18}{'samples/s':>10}   {'of the whole run':>16}")
        for name, one in figures["contenders"].items():
            step = one["step_ms"]
            least_most = f"{step['min']:.2f}..{step['max']:.2f}"
            print(f"  {name:<34}{step['median']:>9.2f}   {least_most:<18}"
                  f"{one['samples_per_second']['median']:>10.0f}   "
                  f"{one['samples_per_second_of_whole_run']['median']:>16.0f}")
        print(f"  {'samples/s of':<34}{'ratio':>9}   {'least..most':<18}")
        for one in figures["ratios"]:
            least_most = f"{one['min']:.3f}..{one['max']:.3f}"
            print(f"  {one['title']:<34}{one['median']:>9.3f}   {least_most:<18}{verdict(one)}")


# ---- command line ----------------------------------------------------------------------------------


def models(text):
    chosen = text.split(",")
    known = sorted({model for model, _ in TARGETS})
    if not set(chosen) <= set(known):
        raise argparse.ArgumentTypeError(f"{text} is not a list of {' and '.join(known)}")
    return chosen


def parse_arguments():
    count = whole_number(1)
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=models, default="cnn,mlp", metavar="A,B", help="(default cnn,mlp)")
    parser.add_argument("--rounds", type=count, default=5, help="(default 5)")
    parser.add_argument("--batch", type=count, default=256, help="samples per step (default 256)")
    parser.add_argument("--steps", type=count, default=200,
                        help="measured steps of DDP (default 200); Paceline does an epoch")
    parser.add_argument("--warmup", type=count, default=20, help="steps of DDP before them (default 20)")
    parser.add_argument("--timeout", type=count, default=600, metavar="SECONDS",
                        help="of each run (default 600)")
    parser.add_argument("--json", metavar="FILE", help="write every figure to this file")
    parser.add_argument("--plain-ddp", action="store_true",
                        help="DDP as it comes: without the memory settings that make it faster here")
    parser.add_argument("--paceline", default=str(ROOT / "paceline"), metavar="PROGRAM")
    parser.add_argument("--peer", default=str(ROOT / "bench/peers/ddp.py"), metavar="FILE")
    parser.add_argument("--job", default="examples/fashion-mnist.yaml", metavar="FILE")
    return parser.parse_args()


def version_of(command, timeout_s):
    """What the program says to --version; it also shows that it is there, and builds it if need be."""
    try:
        said, = bounded.run([([*command, "--version"], None)], ROOT, timeout_s, show_errors=True)
    except RunFailed as error:
        raise Refused(str(error)) from None
    return said.splitlines()[-1] if said else "unknown"


def prepare(options):
    """Everything that must be right before the first run; the machine's fingerprint."""
    options.cores = machine.physical_cores()[:2]
    if len(options.cores) < 2:
        raise Refused("the comparison needs two physical cores, and this process may use one: run it on a "
                      "larger machine, or under a wider taskset")
    if options.batch % 2 != 0:
        raise Refused(f"--batch {options.batch} has no half for the trainings side by side: give an even "
                      "number")
    options.peer_settings = ["--no-keep-memory", "--no-channels-last"] if options.plain_ddp else []
    if options.json:
        write_json(options.json, "")
    found = machine.fingerprint()
    found["torch"] = version_of([sys.executable, options.peer], 120).removeprefix("torch ")
    found["paceline"] = version_of([options.paceline], BUILD_TIMEOUT_S).removeprefix("paceline ")
    return found


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, stop_by_signal)
    try:
        result = {"machine": prepare(options), "settings": {
            "rounds": options.rounds, "batch": options.batch, "steps": options.steps,
            "warmup": options.warmup, "plain_ddp": options.plain_ddp, "cores": options.cores,
            "job": options.job}, "models": {}}
        for model in options.models:
            result["models"][model] = judge(model, measure(options, model))
        report(result)
        if options.json:
            write_json(options.json, json.dumps(result, indent=2) + "\n")
    except RunFailed as error:
        print(f"compare_ddp.py: {error}", file=sys.stderr)
        return error.status
    except Refused as error:
        print(f"compare_ddp.py: {error}", file=sys.stderr)
        return BAD_USAGE
    except KeyboardInterrupt:
        print("compare_ddp.py: stopped by a signal; what it had started is gone", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())

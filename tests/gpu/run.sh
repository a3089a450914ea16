#!/usr/bin/env bash
# Builds the library and every program of tests/gpu, runs all tests and benchmarks, and prints one table.
#
#   tests/gpu/run.sh [BUILD_DIR]          default: build/gpu
#
# Takes a compiler, the CUDA toolkit and CMake. NCCL and LibTorch are used where they are found, also inside Python's
# site-packages (the nvidia-nccl and torch wheels); PACELINE_NCCL_INCLUDE, PACELINE_NCCL_LIBRARY and Torch_DIR in the
# environment go before that. Exit status: 1 if something did not build or a test failed, else 0, also where tests were skipped
# for want of a GPU.
set -uo pipefail

source_dir=$(cd "$(dirname "$0")/../.." && pwd)
build_dir=${1:-$source_dir/build/gpu}
mkdir -p "$build_dir" || exit 1
build_dir=$(cd "$build_dir" && pwd)
log_dir=$build_dir/logs
results=$log_dir/results.txt # rows of the table: program, result, what
mkdir -p "$log_dir"
: >"$results"
failed=0

row() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$results"; }
# The first line that matches, of what a Python program prints; nothing where there is no Python or no such package.
from_python() { python3 -c "$1" 2>/dev/null | head -n 1; }

find_tools() {
  export PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin
  local missing=
  for tool in cmake nvcc c++; do command -v $tool >/dev/null || missing="$missing $tool"; done
  if [ -n "$missing" ]; then
    echo "not found:$missing. It takes a C++20 compiler, CMake 3.25 and the CUDA toolkit (CUDA_HOME says where it is)" >&2
    exit 1
  fi
  generator=()
  if command -v ninja >/dev/null; then generator=(-G Ninja); fi
}

find_libraries() {
  found=()
  components=allreduce # with LibTorch also the training step
  local nccl=${PACELINE_NCCL_INCLUDE:+given}
  if [ -n "$nccl" ]; then
    found+=("-DPACELINE_NCCL_INCLUDE=$PACELINE_NCCL_INCLUDE" "-DPACELINE_NCCL_LIBRARY=${PACELINE_NCCL_LIBRARY:-}")
  elif [ ! -e "$(dirname "$(command -v nvcc)")/../include/nccl.h" ] && [ ! -e /usr/include/nccl.h ]; then
    nccl=$(from_python 'import nvidia.nccl as n; print(list(n.__path__)[0])')
    if [ -n "$nccl" ] && [ -e "$nccl/lib/libnccl.so.2" ]; then
      found+=("-DPACELINE_NCCL_INCLUDE=$nccl/include" "-DPACELINE_NCCL_LIBRARY=$nccl/lib/libnccl.so.2")
      export LD_LIBRARY_PATH=$nccl/lib:${LD_LIBRARY_PATH:-}
    else
      row NCCL skipped "not found: not beside nvcc, not in /usr/include, no nvidia-nccl wheel"
    fi
  fi
  torch=${Torch_DIR:-$(from_python 'import torch; print(torch.utils.cmake_prefix_path + "/Torch")')}
  if [ -n "$torch" ] && [ -d "$torch" ]; then
    found+=("-DTorch_DIR=$torch")
    components=train
  elif compgen -G '/usr/lib/*/cmake/Torch/TorchConfig.cmake' >/dev/null; then
    components=train
  else
    row LibTorch skipped "not found: no Torch_DIR, no torch wheel"
  fi
}

# Only for the GPU that is here, which is faster to compile; for all where there is none.
find_gpu() {
  architectures=()
  gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
  local capability
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '. ')
  case $capability in
    '' | *[!0-9]*)
      gpu=
      row GPU skipped "nvidia-smi shows none: everything is built, and what needs a GPU is skipped"
      ;;
    *) architectures=("-DCMAKE_CUDA_ARCHITECTURES=$capability-real") ;;
  esac
}

configure() {
  cmake -S "$source_dir" -B "$build_dir" "${generator[@]}" --no-warn-unused-cli "-DPACELINE_COMPONENTS=$1" -DPACELINE_CUDA=ON \
    "${found[@]}" "${architectures[@]}"
}

build() {
  echo "building in $build_dir (log: $log_dir/build.log)"
  : >"$log_dir/build.log"
  # A LibTorch whose CMake package does not work here must not cost the rest.
  if [ $components = train ] && ! configure train >>"$log_dir/build.log" 2>&1; then
    row LibTorch skipped "CMake cannot use it: $log_dir/configure-with-torch.log"
    mv "$log_dir/build.log" "$log_dir/configure-with-torch.log"
    components=allreduce
    rm -f "$build_dir/CMakeCache.txt"
  fi
  {
    configure $components &&
      # What can be built is built, and what cannot is a failure of its own.
      cmake --build "$build_dir" --target paceline_gpu_programs --parallel "${JOBS:-$(nproc)}" -- -k $([ -n "${generator[*]}" ] && echo 0)
  } >>"$log_dir/build.log" 2>&1 && return
  failed=1
  row build FAILED "$log_dir/build.log"
  grep -E 'error|Error' "$log_dir/build.log" | head -n 10
}

# run NAME LIMIT_S COMMAND...: its exit status; the output is shown and kept.
run() {
  local name=$1 limit_s=$2
  shift 2
  echo "== $name"
  timeout "$limit_s" "$@" >"$log_dir/$name.log" 2>&1
  local status=$?
  cat "$log_dir/$name.log"
  return $status
}

run_test() {
  local program=$1 name
  name=$(basename "$program")
  run "$name" 900 "$program"
  case $? in
    0) row "$name" passed "$(grep -c '^ok' "$log_dir/$name.log") cases" ;;
    77) row "$name" skipped "$(grep -m 1 SKIPPED "$log_dir/$name.log" | sed "s/^SKIPPED $name: //")" ;;
    *)
      failed=1
      row "$name" FAILED "$log_dir/$name.log"
      ;;
  esac
  # Cases that could not run, with their reasons.
  grep '^SKIPPED' "$log_dir/$name.log" | grep -v "^SKIPPED $name:" | while read -r line; do row "$name" skipped "${line#SKIPPED }"; done
}

run_benchmark() {
  local program=$1 name json
  name=$(basename "$program")
  json=$log_dir/$name.jsonl
  rm -f "$json"
  run "$name" 900 "$program" --json "$json"
  case $? in
    0) ;;
    77) row "$name" skipped "$(grep -m 1 SKIPPED "$log_dir/$name.log" | sed "s/^SKIPPED $name: //")" ;;
    *)
      failed=1
      row "$name" FAILED "$log_dir/$name.log"
      ;;
  esac
  # {"kernel": "adamw", "gbytes_per_s": 1.0} becomes a row: kernel=adamw gbytes_per_s=1.0
  if [ -e "$json" ]; then
    sed -e 's/^{"//; s/}$//; s/, "/  /g; s/": /=/g; s/"//g' "$json" | while read -r line; do row "$name" measured "$line"; done
  fi
}

# Plain PyTorch beside training_bench, in turn, since a machine's speed changes.
run_beside_pytorch() {
  local bench=$build_dir/gpu/training_bench json=$log_dir/pytorch.jsonl
  [ -x "$bench" ] || return
  rm -f "$json"
  for _ in 1 2 3; do
    run pytorch_bench 900 python3 "$source_dir/tests/gpu/pytorch_bench.py" --json "$json"
    case $? in
      0) ;;
      77)
        row pytorch_bench skipped "$(grep -m 1 SKIPPED "$log_dir/pytorch_bench.log" | sed 's/^SKIPPED pytorch_bench: //')"
        return
        ;;
      *)
        failed=1
        row pytorch_bench FAILED "$log_dir/pytorch_bench.log"
        return
        ;;
    esac
    run training_bench.beside 900 "$bench" --gpu-only --json "$json"
  done
  python3 - "$json" <<'END' | while read -r line; do row pytorch_bench measured "$line"; done
import collections, json, statistics, sys
times = collections.defaultdict(list)
for line in open(sys.argv[1], encoding="utf-8"):
    row = json.loads(line)
    who = "pytorch" if "pytorch" in row else "paceline"
    times[row.get("pytorch") or row["training"], row["type"], who].append(row["step_ms"])
for (model, dtype, who), theirs in sorted(times.items()):
    ours = times.get((model, dtype, "paceline"))
    if who == "pytorch" and ours:
        print(f"model={model}  type={dtype}  pytorch_ms={statistics.median(theirs)}  paceline_ms={statistics.median(ours)}"
              f"  ratio={statistics.median(ours) / statistics.median(theirs):.3f}")
END
}

# Memory errors and races, where the tool is there; on less data, since it is a hundred times slower.
run_sanitizer() {
  local program=$1 name tool
  name=$(basename "$program")
  for tool in memcheck racecheck; do
    run "$name.$tool" 900 compute-sanitizer --tool $tool --target-processes all --error-exitcode 99 "$program" --small
    case $? in
      0) row "$name" passed "compute-sanitizer $tool: $(grep -m 1 'SUMMARY' "$log_dir/$name.$tool.log" | sed 's/=* *//')" ;;
      77) row "$name" skipped "compute-sanitizer $tool: no GPU" ;;
      *)
        failed=1
        row "$name" FAILED "compute-sanitizer $tool: $log_dir/$name.$tool.log"
        ;;
    esac
  done
}

find_tools
find_gpu
find_libraries
build
for program in "$build_dir"/gpu/*_test; do [ -x "$program" ] && run_test "$program"; done
for program in "$build_dir"/gpu/*_bench; do [ -x "$program" ] && run_benchmark "$program"; done
run_beside_pytorch
if ! command -v compute-sanitizer >/dev/null; then
  row compute-sanitizer skipped "not found"
elif [ -z "$gpu" ]; then
  row compute-sanitizer skipped "no GPU"
else
  for program in "$build_dir"/gpu/*_test; do [ -x "$program" ] && run_sanitizer "$program"; done
fi

printf '\n%s, nvcc %s\n' "${gpu:-no GPU}" "$(nvcc --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')"
printf '%-20s %-9s %s\n' program result what
while IFS=$'\t' read -r name result what; do printf '%-20s %-9s %s\n' "$name" "$result" "$what"; done <"$results"
exit $failed

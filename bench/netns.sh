#!/bin/bash
# Makes one machine stand for several hosts: network namespaces on a bridge, each behind a slow wire of its own.
# Needs root and iproute2. docs/benchmarks.md shows how `paceline bench` uses it.
#
#   netns.sh run N [--gbits G] -- CMD...   runs CMD with N hosts, which are gone afterwards, however it ends
#   netns.sh up N [--gbits G] [NAME]       makes hosts that stay until `down`; prints what to export
#   netns.sh exec NAME HOST CMD...         runs CMD on a host: h1, h2, ...
#   netns.sh down [NAME]                   removes them, and what runs on them
#
# CMD finds the hosts file in PACELINE_BENCH_HOSTS, with a line `NAME ADDRESS COMMAND...` per host, where COMMAND runs
# another command there, and the wires' speed in PACELINE_BENCH_WIRE_GBITS.
set -euo pipefail

script=$(readlink -f -- "${BASH_SOURCE[0]}")
readonly script
readonly state=/run/paceline-netns

die() {
  printf 'netns.sh: %s\n' "$*" >&2
  exit 2
}

check_machine() {
  ((EUID == 0)) || die "only root can make network namespaces: run it with sudo"
  local tool
  for tool in ip tc nsenter unshare; do
    command -v "$tool" > /dev/null || die "there is no $tool: install the Debian packages iproute2 and util-linux"
  done
}

check_name() { [[ $1 =~ ^[a-z0-9]{1,9}$ ]] || die "NAME $1: write up to 9 lower-case letters and digits"; }

# A /24 below 10.77 that no interface of this machine is in.
free_network() {
  local taken third
  taken=$(ip -4 -o address show)
  for ((third = 1; third < 255; ++third)); do
    [[ $taken == *" 10.77.$third."* ]] && continue
    printf '10.77.%s' "$third"
    return
  done
  die "all networks below 10.77 are taken: remove hosts with netns.sh down"
}

# What CMD finds in its environment. Hosts that are one machine share its cores, which Open MPI cannot see: it spins
# unless it is told, and takes three times as long.
variables() {
  printf '%s\n' "PACELINE_BENCH_HOSTS=$state/$name" "PACELINE_BENCH_WIRE_GBITS=$gbits" OMPI_MCA_mpi_yield_when_idle=1
}

slow_down() { # DEVICE [ip or tc options that say where]
  local device=$1
  shift
  tc "$@" qdisc add dev "$device" root tbf rate "$(awk -v g="$gbits" 'BEGIN { printf "%d", g * 1e6 }')kbit" \
    burst 128kb latency 20ms
}

add_host() { # NUMBER
  local host=h$1 space=$name-h$1 outside=${name}b$1
  ip netns add "$space"
  ip link add "$outside" type veth peer name eth0 netns "$space"
  ip link set "$outside" master "$name" up
  ip -n "$space" address add "$network.$1/24" dev eth0
  ip -n "$space" link set eth0 up
  ip -n "$space" link set lo up
  # Both directions: what leaves the host at its end, what reaches it at the bridge's.
  slow_down eth0 -n "$space"
  slow_down "$outside"
  printf '%s %s %s exec %s %s\n' "$host" "$network.$1" "$script" "$name" "$host" >> "$state/$name"
}

up() { # NUMBER
  [[ $1 =~ ^[1-9][0-9]?$ ]] || die "$1 hosts: write a number from 1 to 99"
  if ! [[ $gbits =~ ^[0-9]+(\.[0-9]+)?$ ]] || ! awk -v g="$gbits" 'BEGIN { exit !(g >= 0.001 && g <= 1000) }'; then
    die "--gbits $gbits: write a number from 0.001 to 1000"
  fi
  check_name "$name"
  [[ ! -e $state/$name ]] || die "there are hosts of the name $name: choose another, or remove them with down $name"
  mkdir -p "$state"
  trap down EXIT # from here on: nothing half made stays
  : > "$state/$name"
  local network
  network=$(free_network)
  ip link add "$name" type bridge
  ip address add "$network.254/24" dev "$name"
  ip link set "$name" up
  local number
  for ((number = 1; number <= $1; ++number)); do add_host "$number"; done
}

down() {
  check_name "$name"
  [[ -e $state/$name ]] || return 0
  local space pids
  for space in $(ip netns list | awk '{ print $1 }' | grep "^$name-h[0-9]*$" || true); do
    pids=$(ip netns pids "$space")
    # shellcheck disable=SC2086 # one word per process
    [[ -z $pids ]] || kill -9 $pids 2> /dev/null || true
    ip netns delete "$space" || true
  done
  ip link delete "$name" 2> /dev/null || true
  rm -f "$state/$name"
  rmdir --ignore-fail-on-non-empty "$state"
}

run() { # NUMBER CMD...
  local number=$1 child status=0
  shift
  name=pl$$
  # A signal goes to the command, whose end is then waited for.
  trap '[[ -z ${child-} ]] || kill -TERM "$child" 2> /dev/null || true' INT TERM HUP
  up "$number"
  local variable
  while read -r variable; do export "${variable?}"; done < <(variables)
  "$@" <&0 &
  child=$!
  wait "$child" || status=$?
  while kill -0 "$child" 2> /dev/null; do
    status=0
    wait "$child" || status=$?
  done
  exit "$status"
}

# A name of its own as well: what tells hosts apart by name shall find several.
exec_on() { # NAME HOST CMD...
  (($# >= 3)) || die "write exec NAME HOST CMD..."
  local space=/run/netns/$1-$2
  [[ -e $space ]] || die "there is no host $2 of the name $1"
  # shellcheck disable=SC2016 # for the shell inside
  exec nsenter --net="$space" unshare --uts sh -c 'hostname "$1" && shift && exec "$@"' sh "${@:2}"
}

usage() { die "write run N [--gbits G] -- CMD..., up N [--gbits G] [NAME], exec NAME HOST CMD... or down [NAME]"; }

main() {
  local command=${1-} number=''
  name=pl gbits=1
  [[ $# == 0 ]] || shift
  case $command in
    run | up)
      check_machine
      (($# >= 1)) || usage
      number=$1
      shift
      if [[ ${1-} == --gbits ]]; then
        (($# >= 2)) || usage
        gbits=$2
        shift 2
      fi
      ;;&
    run)
      [[ ${1-} == -- && $# -ge 2 ]] || usage
      run "$number" "${@:2}"
      ;;
    up)
      (($# <= 1)) || usage
      name=${1-$name}
      up "$number"
      trap - EXIT
      variables
      ;;
    exec)
      exec_on "$@"
      ;;
    down)
      (($# <= 1)) || usage
      check_machine
      name=${1-$name}
      down
      ;;
    *) usage ;;
  esac
}

main "$@"

#!/bin/bash
# A real Slurm cluster on one machine, for trying things and for tests: each node is a network namespace with a host name, an
# address and a wire of its own (bench/netns.sh). Needs root, iproute2 and the Debian packages slurm-wlm and munge.
#
#   test-cluster.sh up [--nodes N] [--cpus N] [NAME]    starts it; prints what to export so that Slurm's commands find it
#   test-cluster.sh run [--nodes N] [--cpus N] -- CMD   runs CMD with a cluster that is gone afterwards, however CMD ends
#   test-cluster.sh cut NODE [NAME]                     cuts a node's wire, as if it had lost its power; `mend` puts it back
#   test-cluster.sh down [NAME]                         ends it, and all that runs on it
#
# All nodes see the same files. A node is only said to have so many cpus (default 4): its processes share this machine's cores.
# There are two partitions: `normal`, whose jobs are requeued when one of `urgent` needs their nodes.
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
readonly root netns=$root/bench/netns.sh hosts_of=/run/paceline-netns
readonly patience_s=30

die() {
  printf 'test-cluster.sh: %s\n' "$*" >&2
  exit 2
}

check_machine() {
  ((EUID == 0)) || die "only root can start Slurm's daemons: run it with sudo"
  local tool
  for tool in slurmctld slurmd munged; do
    command -v "$tool" > /dev/null || PATH=$PATH:/usr/sbin command -v "$tool" > /dev/null ||
      die "there is no $tool: install the Debian packages slurm-wlm and munge"
  done
  PATH=$PATH:/usr/sbin:/sbin
}

use_name() { # NAME
  [[ $1 =~ ^[a-z0-9]{1,9}$ ]] || die "NAME $1: write up to 9 lower-case letters and digits"
  name=$1 folder=/tmp/paceline-slurm-$1
}

write_configuration() {
  local controller address
  controller=$(hostname -s)
  address=$(ip -4 -o address show dev "$name" | awk '{ sub("/.*", "", $4); print $4 }')
  cat > "$folder/slurm.conf" << EOF
ClusterName=$name
SlurmctldHost=$controller($address)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CryptoType=crypto/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
TmpFS=$folder/tmp/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
SlurmctldPort=6817
SlurmdPort=6818
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=10
MessageTimeout=5
KillWait=10
MinJobAge=300
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,preempt_send_user_signal
EOF
  while read -r host address _; do
    printf 'NodeName=%s NodeHostname=%s NodeAddr=%s CPUs=%s RealMemory=1024\n' "$host" "$host" "$address" "$cpus"
    mkdir -p "$folder/spool/$host" "$folder/tmp/$host"
  done < "$hosts_of/$name" >> "$folder/slurm.conf"
  cat >> "$folder/slurm.conf" << EOF
PartitionName=normal Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
EOF
}

start_munge() {
  mkdir -p "$folder/munge"
  chmod 755 "$folder/munge"
  (umask 077 && head -c 1024 /dev/urandom > "$folder/munge/key")
  local owner
  owner=$(id -u munge 2> /dev/null || echo 0)
  chown -R "$owner" "$folder/munge"
  chmod 400 "$folder/munge/key"
  # As the user that owns the key; the socket is for everybody.
  setpriv --reuid="$owner" --clear-groups munged --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
    --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
}

start_daemons() {
  export SLURM_CONF=$folder/slurm.conf
  slurmctld -f "$SLURM_CONF"
  local host
  # Not its own daemon: the process is then the one that exec made, in the host's namespaces.
  while read -r host _; do
    setsid "$netns" exec "$name" "$host" slurmd -D -f "$SLURM_CONF" -N "$host" < /dev/null > /dev/null 2>&1 &
  done < "$hosts_of/$name"
}

await_nodes() { # NUMBER
  local deadline=$((SECONDS + patience_s))
  until (($(sinfo -h -N -p normal -t idle -o %N 2> /dev/null | wc -l) == $1)); do
    if ((SECONDS >= deadline)); then
      tail -n 5 "$folder"/*.log >&2
      die "the nodes are not idle after $patience_s s; their last words are above"
    fi
    sleep 0.1
  done
}

# What the shell of the caller needs. Open MPI finds its way to the nodes by Slurm.
variables() { printf 'export SLURM_CONF=%s\n' "$folder/slurm.conf"; }

up() {
  [[ $nodes =~ ^[1-9][0-9]?$ ]] || die "--nodes $nodes: write a number from 1 to 99"
  [[ $cpus =~ ^[1-9][0-9]{0,2}$ ]] || die "--cpus $cpus: write a number from 1 to 999"
  [[ ! -e $folder ]] || die "there is a cluster of the name $name: choose another, or end it with down $name"
  trap down EXIT # from here on: nothing half made stays
  "$netns" up "$nodes" "$name" > /dev/null
  mkdir -p "$folder"/{state,spool,tmp}
  write_configuration
  start_munge
  start_daemons
  await_nodes "$nodes"
}

end_process() { # PID-FILE
  local pid deadline=$((SECONDS + 5))
  pid=$(cat "$1" 2> /dev/null) || return 0
  kill "$pid" 2> /dev/null || return 0
  while kill -0 "$pid" 2> /dev/null; do
    ((SECONDS < deadline)) || kill -9 "$pid" 2> /dev/null || return 0
    sleep 0.05
  done
}

down() {
  [[ -d $folder ]] || return 0
  # The controller first, or it would start on other nodes what is ended on one; what runs on the nodes ends with them.
  end_process "$folder/slurmctld.pid"
  "$netns" down "$name"
  end_process "$folder/munge/pid"
  rm -rf "$folder"
}

run() { # CMD...
  local child status=0 interrupted=yes
  use_name "sl$$"
  trap 'interrupted=yes; [[ -z ${child-} ]] || kill -TERM "$child" 2> /dev/null || true' INT TERM HUP
  up
  eval "$(variables)"
  "$@" <&0 &
  child=$!
  while [[ -n $interrupted ]]; do
    interrupted='' status=0
    wait "$child" || status=$?
  done
  exit "$status"
}

wire() { # up|down NODE
  [[ -e /run/netns/$name-$2 ]] || die "there is no node $2 in a cluster of the name $name"
  ip link set "${name}b${2#h}" "$1"
}

usage() { die "write up [--nodes N] [--cpus N] [NAME], run [--nodes N] [--cpus N] -- CMD..., cut NODE [NAME], mend NODE [NAME] or down [NAME]"; }

main() {
  local command=${1-}
  name='' folder='' nodes=4 cpus=4
  [[ $# == 0 ]] || shift
  case $command in
    up | run)
      while [[ ${1-} == --nodes || ${1-} == --cpus ]]; do
        (($# >= 2)) || usage
        [[ $1 == --nodes ]] && nodes=$2 || cpus=$2
        shift 2
      done
      check_machine
      ;;&
    up)
      (($# <= 1)) || usage
      use_name "${1-sl}"
      up
      trap - EXIT
      variables
      ;;
    run)
      [[ ${1-} == -- && $# -ge 2 ]] || usage
      run "${@:2}"
      ;;
    cut | mend)
      (($# >= 1 && $# <= 2)) || usage
      check_machine
      use_name "${2-sl}"
      if [[ $command == cut ]]; then wire down "$1"; else wire up "$1"; fi
      ;;
    down)
      (($# <= 1)) || usage
      check_machine
      use_name "${1-sl}"
      down
      ;;
    *) usage ;;
  esac
}

main "$@"

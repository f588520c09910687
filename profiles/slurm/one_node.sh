#!/usr/bin/env bash
# A SLURM of one node, this machine, on loopback: to try profiles/slurm where there is no cluster. As root.
#
#   profiles/slurm/one_node.sh install        # slurmctld, slurmd and munge, with apt (Debian, Ubuntu)
#   profiles/slurm/one_node.sh start [DIR]    # keeps all its files in DIR (default: /tmp/tessera-slurm)
#   ./run_all.sh snakemake --profile profiles/slurm quick
#   profiles/slurm/one_node.sh stop [DIR]     # ends jobs and daemons and removes DIR
#
# CPUS=N says how many processors the node claims to have. Keys, sockets, ports and logs are its own; /etc/slurm/slurm.conf
# is a link to its configuration while it is there, and a machine that has that file already is refused. There is no
# accounting. SLURM's own limits are minutes and it looks at them every half minute; memory is not shared out.
set -euo pipefail

refuse() {
  echo "error: $1" >&2
  exit 2
}

needs_root() { [ "$(id -u)" = 0 ] || refuse "a SLURM node starts jobs as other users: run this as root."; }

lacking() { for name in munged slurmctld slurmd sbatch; do command -v "$name" > /dev/null || echo "$name"; done; }

install_all() {
  [ -n "$(lacking)" ] || return 0
  needs_root
  command -v apt-get > /dev/null || refuse "there is no apt-get here: install munge, slurmctld and slurmd another way."
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends munge slurmctld slurmd slurm-client > /dev/null
}

free_ports() {
  python3 - << 'PYTHON'
import socket
several = [socket.socket() for _ in range(2)]
for one in several:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in several))
PYTHON
}

configure() {
  local name control node
  name=$(hostname -s)
  read -r control node < <(free_ports)
  cat > "$DIR/slurm.conf" << CONF
ClusterName=tessera
SlurmctldHost=$name(127.0.0.1)
SlurmctldPort=$control
SlurmdPort=$node
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$DIR/munge.socket
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool
SlurmctldPidFile=$DIR/slurmctld.pid
SlurmdPidFile=$DIR/slurmd.pid
SlurmctldLogFile=$DIR/slurmctld.log
SlurmdLogFile=$DIR/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=batch_sched_delay=0,sched_interval=5
ReturnToService=2
KillWait=30
MinJobAge=600
NodeName=$name NodeAddr=127.0.0.1 CPUs=${CPUS:-$(nproc)} RealMemory=1000000 State=UNKNOWN
PartitionName=main Nodes=$name Default=YES MaxTime=INFINITE State=UP
CONF
}

start() {
  needs_root
  local missing
  missing=$(lacking)
  [ -z "$missing" ] || refuse "$(echo $missing) not found: run '$0 install' first."
  [ ! -e "$DIR/slurm.conf" ] || refuse "$DIR has a SLURM already: run '$0 stop $DIR' first, or name another folder."
  [ ! -e "$CONF" ] || refuse "this machine has a SLURM, $CONF: use that one."
  mkdir -p "$DIR/state" "$DIR/spool" "$(dirname "$CONF")"
  chmod 755 "$DIR"
  (umask 077 && head -c 1024 /dev/urandom > "$DIR/munge.key")
  configure
  munged --force --socket="$DIR/munge.socket" --key-file="$DIR/munge.key" --pid-file="$DIR/munge.pid" \
    --log-file="$DIR/munge.log" --seed-file="$DIR/munge.seed" 2> "$DIR/munge.err" || failed munge.err
  ln -sfn "$DIR/slurm.conf" "$CONF"
  slurmctld -c || failed slurmctld.log
  slurmd -N "$(hostname -s)" || failed slurmd.log
  for _ in $(seq 100); do
    [ "$(sinfo -h -o %T 2> /dev/null)" = idle ] && echo "SLURM runs: its files are in $DIR" && return 0
    sleep 0.2
  done
  failed slurmctld.log
}

failed() {
  tail -n 5 "$DIR/$1" >&2 || true
  stop
  refuse "the SLURM in $DIR did not start: its last words are above."
}

stop() {
  needs_root
  [ -d "$DIR" ] || return 0
  [ ! -e "$DIR/slurm.conf" ] || timeout 10 scancel --user=root --signal=KILL --full 2> /dev/null || true
  local pid file
  for file in slurmd slurmctld munge; do
    [ -s "$DIR/$file.pid" ] || continue
    pid=$(cat "$DIR/$file.pid")
    kill "$pid" 2> /dev/null || true
    for _ in $(seq 50); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2> /dev/null || true
  done
  [ "$(readlink "$CONF")" != "$DIR/slurm.conf" ] || rm "$CONF"
  rm -rf "$DIR"
}

CONF=/etc/slurm/slurm.conf
DIR=${2:-/tmp/tessera-slurm}
case "$DIR" in /*) ;; *) DIR=$PWD/$DIR ;; esac
case "${1:-help}" in
  install) install_all ;;
  start) start ;;
  stop) stop ;;
  *)
    sed -n '2,11s/^# \{0,1\}//p' "$0"
    [ "${1:-help}" = help ] || refuse "unknown command '$1'."
    ;;
esac

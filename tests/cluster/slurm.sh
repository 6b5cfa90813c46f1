#!/usr/bin/env bash
# Runs a sweep of the pocket model on a real Slurm of one node: an array of four tasks, one of which is killed with -9
# and requeued. The merged results must equal those of a single process to the byte. Needs root, slurm-wlm and munge:
#
#     apt-get install slurm-wlm munge
#     sudo tests/cluster/slurm.sh
#
# It starts munged, slurmctld and slurmd in a folder of its own and stops them again. It is not part of the test suite.
set -euo pipefail
repository=$(cd "$(dirname "$0")/../.." && pwd)
deno=${DENO:-$(command -v deno)}
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp} NO_COLOR=1
folder=$(mktemp -d)
host=$(hostname -s)
daemons=()

stop() {
  for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  if [ -n "${KEEP:-}" ]; then echo "kept $folder"; else rm -rf "$folder"; fi
}
trap stop EXIT

bluerose() { "$deno" run -q -P=bluerose --no-prompt --config "$repository/deno.json" "$repository/cli/main.ts" "$@"; }

chmod 755 "$folder"
results="$folder/results of 50% \"roses\" #1" # a folder whose name needs quoting in all its parts
mkdir -p "$folder"/{munge,state,spool,single} "$results"
dd if=/dev/urandom of="$folder/munge/key" bs=1 count=1024 status=none
chmod 400 "$folder/munge/key"
munged --foreground --force --key-file "$folder/munge/key" --socket "$folder/munge/socket" --pid-file "$folder/munge/pid" \
  --log-file "$folder/munge/log" --seed-file "$folder/munge/seed" &
daemons+=($!)

cat >"$folder/slurm.conf" <<EOF
ClusterName=test
SlurmctldHost=$host
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=10
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
JobRequeue=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmctldPort=36817
SlurmdPort=36818
NodeName=$host CPUs=2 RealMemory=8192 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
EOF
export SLURM_CONF="$folder/slurm.conf"
for _ in $(seq 50); do [ -S "$folder/munge/socket" ] && break || sleep 0.1; done
slurmctld -D &
daemons+=($!)
slurmd -D &
daemons+=($!)
for _ in $(seq 100); do sinfo -h -o %T 2>/dev/null | grep -q idle && break || sleep 0.3; done
sinfo

bluerose sweep plan --rows 2 --seeds 1 --steps 2 --method baseline time uce nullspace --threshold 0.05 0.1 -o "$folder/plan.json"
bluerose sweep slurm "$folder/plan.json" --shards 4 --cpus 1 --memory 3 --gpus 0 --minutes 10 --batch-size 4 \
  --results "$results" -o "$folder/sweep.sbatch"
job=$(sbatch --parsable "$folder/sweep.sbatch")
echo "submitted $job"

# Task 1 draws the second shard. It is killed when its first batch is stored.
for _ in $(seq 600); do [ -s "$results/results_2.jsonl" ] && break || sleep 0.1; done
killed=no
for process in /proc/[0-9]*; do
  [ "$(readlink "$process/exe" 2>/dev/null)" = "$(readlink -f "$deno")" ] || continue
  grep -qzx 'SLURM_ARRAY_TASK_ID=1' "$process/environ" 2>/dev/null || continue
  echo "killing ${process#/proc/} after $(wc -l <"$results/results_2.jsonl") results"
  kill -9 "${process#/proc/}" && killed=yes
done
[ "$killed" = yes ] || { echo "FAILED: task 1 was not there to be killed"; exit 1; }

for _ in $(seq 600); do [ -z "$(squeue -h -j "$job" 2>/dev/null)" ] && break || sleep 1; done
scontrol show job "$job" | grep -E "ArrayTaskId|JobState|Restarts" || true
grep -h "pictures added\|requeue\|complete" "$results"/slurm_*.log || true
grep -q "Restarts=1" <(scontrol show job "${job}_1") || { echo "FAILED: task 1 was not requeued"; exit 1; }

BLUEROSE_SHARDS= bluerose sweep run "$folder/plan.json" --shard 1/1 --batch-size 4 -o "$folder/single/results.jsonl"
bluerose sweep merge "$folder/plan.json" "$results"/results_*.jsonl --json "$folder/array.json" --csv "$folder/array.csv"
bluerose sweep merge "$folder/plan.json" "$folder/single/results.jsonl" --json "$folder/single.json" --csv "$folder/single.csv" >/dev/null
cmp "$folder/array.json" "$folder/single.json"
cmp "$folder/array.csv" "$folder/single.csv"
cmp <(cat "$results"/results_*.jsonl | sort) <(sort "$folder/single/results.jsonl")
echo "ok: the array's results equal those of a single process, byte for byte"

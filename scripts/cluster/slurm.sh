#!/usr/bin/env bash
# One `bllossom pretrain` (or sft) over several nodes with Slurm: every task is a rank, so no second launcher is needed.
#
#     sbatch --nodes=2 scripts/cluster/slurm.sh pretrain configs/bllossom-13b/pretrain.yaml [key=value ...]
#
# Slurm warns the ranks five minutes before the time is up: they finish their step, save and exit 75, and this script puts
# the job back into the queue, where the same command goes on. Any other exit code ends the job: a failure would come
# again. All nodes need the same file system below the config's output. DRY_RUN=1 prints the command.
#SBATCH --job-name=bllossom
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
set -euo pipefail

if [[ $# -lt 2 ]]; then
    echo "usage: sbatch $0 pretrain|sft CONFIG [key=value ...]" >&2
    exit 2
fi
stage=$1 config=$2
shift 2

MASTER_ADDR=$(scontrol show hostnames "${SLURM_JOB_NODELIST:?start this with sbatch}" | head -n 1)
# Two jobs on one node get two ports.
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export MASTER_ADDR MASTER_PORT

# A rank learns its place from Slurm; the shell of each task translates.
# shellcheck disable=SC2016  # expanded by that shell
rank='export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID LOCAL_WORLD_SIZE=$SLURM_NTASKS_PER_NODE
exec "$@"'
# A rank that exits 75 a moment before the others must not have them killed, as KillOnBadExit in slurm.conf may have it; a
# minute after the first has ended, however, all are. srun exits with the highest code of its tasks (srun(1)).
command=(srun --kill-on-bad-exit=0 --wait=60 bash -c "$rank" rank bllossom "$stage" --config "$config" "$@")

if [[ ${DRY_RUN:-0} == 1 ]]; then
    printf '%q ' "${command[@]}"
    echo
    exit 0
fi

status=0
"${command[@]}" || status=$?
if [[ $status == 75 ]]; then
    echo "stopped and saved: back into the queue" >&2
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"

#!/usr/bin/env bash
# One `bllossom pretrain` (or sft) over several machines without a scheduler: run this on each of them.
#
#     MASTER_ADDR=first-machine NODES=2 NODE_RANK=0 GPUS=8 scripts/cluster/torchrun.sh pretrain CONFIG [key=value ...]
#
# On a single machine `bllossom pretrain` starts the ranks by itself (gpus: auto). DRY_RUN=1 prints the command.
#
# Ctrl-C or SIGTERM here has the ranks finish their step, save and exit 75, but torchrun makes 1 of every exit code. That
# it was a stop and no failure is told by the line "stopped after step N of M, saved"; the same command goes on.
set -euo pipefail

if [[ $# -lt 2 ]]; then
    echo "usage: MASTER_ADDR=… NODES=… NODE_RANK=… GPUS=… $0 pretrain|sft CONFIG [key=value ...]" >&2
    exit 2
fi
stage=$1 config=$2
shift 2

# A step and a checkpoint of a large model take longer than the 30 seconds that torchrun leaves its ranks by default.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-600}
command=(torchrun
    --nnodes "${NODES:-1}" --node-rank "${NODE_RANK:-0}" --nproc-per-node "${GPUS:-8}"
    --master-addr "${MASTER_ADDR:-localhost}" --master-port "${MASTER_PORT:-29500}"
    --no-python bllossom "$stage" --config "$config" "$@")

if [[ ${DRY_RUN:-0} == 1 ]]; then
    printf '%q ' "${command[@]}"
    echo
    exit 0
fi
exec "${command[@]}"

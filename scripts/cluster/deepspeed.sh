#!/usr/bin/env bash
# One `bllossom pretrain` (or sft) over the machines of a DeepSpeed hostfile, started from the first of them by ssh.
#
#     HOSTFILE=hosts scripts/cluster/deepspeed.sh pretrain CONFIG [key=value ...]
#
# DRY_RUN=1 prints the command.
#
# To stop, send SIGTERM to one rank on any of the machines: `pkill -TERM -n -f 'bllossom.cli (pretrain|sft)'`. All ranks
# finish their step, save and exit 75, which the launcher hands on; the same command goes on. SIGTERM to the launcher
# itself is no such stop: on one machine it ends alone and the ranks train on without it; on several it exits 1 and leaves
# the ranks 30 seconds to save.
set -euo pipefail

if [[ $# -lt 2 ]]; then
    echo "usage: HOSTFILE=… $0 pretrain|sft CONFIG [key=value ...]" >&2
    exit 2
fi
stage=$1 config=$2
shift 2

command=(deepspeed --hostfile "${HOSTFILE:-/job/hostfile}" --master_port "${MASTER_PORT:-29500}"
    --no_local_rank --module bllossom.cli "$stage" --config "$config" "$@")

if [[ ${DRY_RUN:-0} == 1 ]]; then
    printf '%q ' "${command[@]}"
    echo
    exit 0
fi
exec "${command[@]}"

#!/usr/bin/env bash
# One `bllossom pretrain` (or sft) over the machines of a DeepSpeed hostfile, started from the first of them by ssh.
#
#     HOSTFILE=hosts scripts/cluster/deepspeed.sh pretrain CONFIG [key=value ...]
#
# DRY_RUN=1 prints the command.
set -euo pipefail

if [[ $# -lt 2 ]]; then
    echo "usage: HOSTFILE=… $0 pretrain|sft CONFIG [key=value ...]" >&2
    exit 2
fi
stage=$1 config=$2
shift 2

command=(deepspeed --hostfile "${HOSTFILE:-/job/hostfile}" --module bllossom.cli "$stage" --config "$config" "$@")

if [[ ${DRY_RUN:-0} == 1 ]]; then
    printf '%q ' "${command[@]}"
    echo
    exit 0
fi
exec "${command[@]}"

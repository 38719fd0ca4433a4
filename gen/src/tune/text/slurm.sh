#!/bin/bash
# Eight shards of the pack this lies in, one GPU each: sbatch slurm.sh. A task that was cut off goes on when it is submitted again.
#SBATCH --job-name=tilewright-tune
#SBATCH --array=1-8
#SBATCH --gres=gpu:1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=32G
#SBATCH --time=04:00:00
set -eu
cd "${SLURM_SUBMIT_DIR}"
exec ./tilewright-runner tune --pack . --device cuda:0 --shard "${SLURM_ARRAY_TASK_ID}/${SLURM_ARRAY_TASK_COUNT}"

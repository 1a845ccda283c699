#!/bin/sh
# Shares of a job as an array of Slurm, one for each task of the array, which begins at 1:
#   job=$(sbatch --parsable --array=1-8 slurm-shares.sh); sbatch --dependency=afterok:$job slurm-merge.sh
#SBATCH --job-name=mnc-shares
#SBATCH --cpus-per-task=1
#SBATCH --output=mnc-share-%a.log
set -eu
MNC=${MNC:-mnc} MODEL=${MODEL:-net.onnx} DATA=${DATA:-embedded} OPTIONS=${OPTIONS:-} WORK=${WORK:-shares}

of=$SLURM_ARRAY_TASK_COUNT
mkdir -p "$WORK"
# shellcheck disable=SC2086
$MNC sensitivity "$MODEL" --data "$DATA" $OPTIONS --threads "${SLURM_CPUS_PER_TASK:-1}" \
  --shard "$SLURM_ARRAY_TASK_ID/$of" --part "$WORK/$SLURM_ARRAY_TASK_ID-of-$of.json"

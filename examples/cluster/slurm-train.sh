#!/bin/sh
# One training run on as many ranks as the job has tasks: sbatch --ntasks=16 slurm-train.sh. A job that was preempted or
# ran out of time goes on from its checkpoint when it is submitted again; Slurm's signal comes a minute before the end.
#SBATCH --job-name=mnc-train
#SBATCH --ntasks=2
#SBATCH --cpus-per-task=1
#SBATCH --signal=TERM@60
#SBATCH --requeue
#SBATCH --output=mnc-train.log
set -eu
MNC=${MNC:-mnc} MODEL=${MODEL:-net.onnx} DATA=${DATA:-embedded} OPTIONS=${OPTIONS:-} OUT=${OUT:-trained.onnx}

# shellcheck disable=SC2086
exec srun --mpi=pmix $MNC train "$MODEL" --data "$DATA" $OPTIONS --threads "${SLURM_CPUS_PER_TASK:-1}" --resume -o "$OUT"

#!/bin/sh
# Joins what the tasks of slurm-shares.sh wrote.
#SBATCH --job-name=mnc-merge
#SBATCH --output=mnc-merge.log
set -eu
# shellcheck disable=SC2086
${MNC:-mnc} merge "${WORK:-shares}"/*-of-*.json -o "${OUT:-sensitivity.json}"

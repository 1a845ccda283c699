#!/bin/sh
# One training run on RANKS ranks; --hostfile in MPI_OPTIONS spreads them over machines, which see this folder.
set -eu
MNC=${MNC:-mnc} MODEL=${MODEL:-net.onnx} DATA=${DATA:-embedded} OPTIONS=${OPTIONS:-} OUT=${OUT:-trained.onnx}

# shellcheck disable=SC2086
exec ${MPIRUN:-mpirun} -n "${RANKS:-2}" ${MPI_OPTIONS:-} \
  $MNC train "$MODEL" --data "$DATA" $OPTIONS --threads 1 --resume -o "$OUT"

#!/bin/sh
# A job in SHARES shares by GNU parallel, JOBS at a time. With --sshloginfile in PARALLEL_OPTIONS the shares go to other
# machines, which see this folder.
set -eu
MNC=${MNC:-mnc} MODEL=${MODEL:-net.onnx} DATA=${DATA:-embedded} OPTIONS=${OPTIONS:-}
SHARES=${SHARES:-4} JOBS=${JOBS:-2} WORK=${WORK:-shares} OUT=${OUT:-sensitivity.json}

mkdir -p "$WORK"
# shellcheck disable=SC2086
seq "$SHARES" | parallel --jobs "$JOBS" --halt soon,fail=1 ${PARALLEL_OPTIONS:-} \
  $MNC sensitivity "$MODEL" --data "$DATA" $OPTIONS --threads 1 --shard "{}/$SHARES" --part "$WORK/{}-of-$SHARES.json"
# shellcheck disable=SC2086
$MNC merge "$WORK"/*-of-"$SHARES".json -o "$OUT"

#!/usr/bin/env bash
# The scores of a sweep's codes where one of the top N counts as right, as the papers have it for
# CIFAR-100. Usage: top.sh SAVE_DIR BASE_DIR DATA_DIR DATA_SET MODEL N
set -euo pipefail

save=$1 base=$2/$4/$5/model.safetensors test=$3/$4/test
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

rows=$(parm-data info --json "$test/labels.npy" | sed 's/.*"rows":\([0-9]*\).*/\1/')
for code in "$save/$4-$5"-k*; do
  k=${code##*-k} k=${k%%-*}
  model=$code/parity-0.safetensors
  test -e "$model" || model=$base
  # Whole groups only.
  parm-data slice ":$((rows / k * k))" "$test/images.npy" > "$work/images.npy"
  parm-data slice ":$((rows / k * k))" "$test/labels.npy" > "$work/labels.npy"
  parm-infer -m "$base" "$work/images.npy" > "$work/own.npy"
  parm-encode --code "$code" "$work/images.npy" | parm-infer -m "$model" > "$work/parity.npy"
  parm-decode --code "$code" --parity "$work/parity.npy" --erase each --erased-out "$work/have.npy" \
    "$work/own.npy" > "$work/rebuilt.npy"
  echo "${code##*/}"
  parm-score -k "$k" --labels "$work/labels.npy" --available "$work/have.npy" --copies "$k" \
    --top "1,$6" "$work/rebuilt.npy" | grep '^A_[ad] '
done

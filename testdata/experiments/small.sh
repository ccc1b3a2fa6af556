#!/usr/bin/env bash
# Usage: small.sh SAMPLES OUT: the papers' other tasks on small real samples: that each trains, and what is
# rebuilt of it. SAMPLES holds speech-commands-mini, cat-dog-mini and localisation-mini.
set -euo pipefail
samples=$1 out=$2
mkdir -p "$out"

# Trains a deployed model and a parity model for pairs, and rebuilds the test rows, each lost in turn.
# task, rows of training, rows of test, truth (labels or boxes), and the arguments of parm-train.
pairs() {
    local task=$1 train=$2 test=$3 truth=$4
    shift 4
    local data=$out/$task kind=()
    [ "$truth" = labels ] || kind=(--loss smooth-l1)
    [ -e "$data.safetensors" ] || parm-train base --data "$train" "--$truth" "$out/$task-train/$truth.npy" \
        --validation 0 "$@" -o "$data.safetensors"
    [ -e "$data-code/code.json" ] || parm-train parity --base "$data.safetensors" --code sum -k 2 --data "$train" \
        --validation 0 --epochs 30 --batch 8 --lr 0.001 "${kind[@]}" -o "$data-code"
    local rows
    rows=$(parm-data info --json "$test" | sed 's/.*"rows": *\([0-9]*\).*/\1/')
    rows=$((rows / 2 * 2))
    parm-data shuffle --seed 1 "$test" "$out/$task-test/$truth.npy" -o "$data-x.npy" -o "$data-y.npy"
    parm-data slice ":$rows" "$data-x.npy" > "$data-queries.npy"
    parm-data slice ":$rows" "$data-y.npy" > "$data-$truth.npy"
    parm-infer -m "$data.safetensors" --code "$data-code" --parity-out "$data-parity.npy" \
        "$data-queries.npy" > "$data-own.npy"
    parm-decode --code "$data-code" --parity "$data-parity.npy" --erase each --erased-out "$data-have.npy" \
        "$data-own.npy" > "$data-rebuilt.npy"
    echo "$task: $rows test rows"
    local reference=()
    [ "$truth" = boxes ] || reference=(--reference "$data-own.npy" --top 1)
    parm-score "--$truth" "$data-$truth.npy" "${reference[@]}" --available "$data-have.npy" --copies 2 -k 2 \
        "$data-rebuilt.npy"
}

for part in train test; do
    parm-data speech "$samples/speech-commands-mini" --split $part -o "$out/speech-$part"
    parm-data images "$samples/cat-dog-mini/$part" --resize 64 --crop 64 -o "$out/pictures-$part"
done
parm-data boxes "$samples/localisation-mini/boxes.csv" --images "$samples/localisation-mini/images" \
    --size 64 -o "$out/boxes"
for part in train test; do
    mkdir -p "$out/boxes-$part"
    if [ $part = train ]; then range=:32; else range=32:; fi
    for name in images boxes; do parm-data slice $range "$out/boxes/$name.npy" > "$out/boxes-$part/$name.npy"; done
done
pairs speech "$out/speech-train/clips.npy" "$out/speech-test/clips.npy" labels \
    --model lenet5 --epochs 20 --batch 8
pairs pictures "$out/pictures-train/images.npy" "$out/pictures-test/images.npy" labels \
    --model resnet18 --epochs 20 --batch 8
pairs boxes "$out/boxes-train/images.npy" "$out/boxes-test/images.npy" boxes \
    --model resnet18 --epochs 30 --batch 8

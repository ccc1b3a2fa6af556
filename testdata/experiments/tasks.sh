#!/usr/bin/env bash
# Usage: tasks.sh TRAIN_FOLDER TEST_FOLDER SAMPLES OUT [NAME…]: codes for models that do not classify, k = 2. The names are
# diabetes, houses, embeddings and boxes; without names, all.
#
# TRAIN_FOLDER and TEST_FOLDER hold MNIST as `parm-data idx` writes it, SAMPLES holds localisation-mini. PYTHON is one that
# has torch 2.11 and scikit-learn. Deployed models of values and boxes are trained by parm-train, that of embeddings by
# tasks.py. Each slot of each group is lost in turn. What is there already is not trained again.
set -euo pipefail
experiments=$(cd "$(dirname "$0")" && pwd)
train=$1 test=$2 samples=$3 out=$4
python=${PYTHON:-python3}
shift 4
mkdir -p "$out"
wanted=" $* "

wants() { [[ $wanted == "  " || $wanted == *" $1 "* ]]; }

# Trains a parity model and scores it on test rows: name, deployed model, training rows, test rows, and the arguments of
# parm-score; then, after --, those of parm-train.
pairs() {
    local name=$1 model=$2 data=$3 queries=$4 scores=()
    shift 4
    while [ "$1" != -- ]; do scores+=("$1") && shift; done
    shift
    local code=$out/$name-code own=$out/$name-own.npy
    [ -e "$code/code.json" ] || parm-train parity -v --base "$model" --code sum -k 2 --data "$data" --threads 1 \
        -o "$code" "$@"
    parm-infer --threads 1 -m "$model" --code "$code" --parity-out "$code/outputs.npy" "$queries" > "$own"
    parm-decode --code "$code" --parity "$code/outputs.npy" --erase each --erased-out "$code/have.npy" "$own" \
        > "$code/rebuilt.npy"
    echo "$name"
    parm-score -k 2 --reference "$own" --available "$code/have.npy" --copies 2 "${scores[@]}" "$code/rebuilt.npy"
}

for name in diabetes houses; do
    wants $name || continue
    folder=$out/$name
    # Of few rows, few weights that decay.
    if [ $name = diabetes ]; then
        own=(--hidden 32 --epochs 100 --batch 16 --lr 0.001 --weight-decay 0.03) parity=(--epochs 200 --batch 16)
    else
        own=(--hidden 64,32 --epochs 20 --lr 0.003) parity=(--epochs 40 --batch 128)
    fi
    [ -e "$folder/test-values.npy" ] || "$python" "$experiments/tasks.py" $name "$folder"
    [ -e "$folder/base.safetensors" ] || parm-train base -v --data "$folder/x.npy" --values "$folder/values.npy" \
        "${own[@]}" --threads 1 -o "$folder/base.safetensors"
    pairs $name "$folder/base.safetensors" "$folder/x.npy" "$folder/test-x.npy" \
        --values "$folder/test-values.npy" -- --values "$folder/values.npy" "${parity[@]}"
    parm-compare -m "$folder/base.safetensors" --data "$folder/test-x.npy" --values "$folder/test-values.npy" -k 2 \
        --code-dir "$out/$name-code" --threads 1
done

if wants embeddings; then
    model=$out/embed.pt2
    [ -e "$model" ] || "$python" "$experiments/tasks.py" embed "$train" "$test" 8 "$model"
    pairs embeddings "$model" "$train/images.npy" "$test/images.npy" --task embed --labels "$test/labels.npy" \
        -- --task embed --epochs 60
fi

if wants boxes; then
    parm-data boxes "$samples/localisation-mini/boxes.csv" --images "$samples/localisation-mini/images" --size 64 \
        -o "$out/boxes"
    for part in train test; do
        mkdir -p "$out/boxes-$part"
        if [ $part = train ]; then range=:32; else range=32:; fi
        for name in images boxes; do parm-data slice $range "$out/boxes/$name.npy" > "$out/boxes-$part/$name.npy"; done
    done
    [ -e "$out/boxes.safetensors" ] || parm-train base --data "$out/boxes-train/images.npy" \
        --boxes "$out/boxes-train/boxes.npy" --validation 0 --model resnet18 --epochs 30 --batch 8 --threads 1 \
        -o "$out/boxes.safetensors"
    pairs boxes "$out/boxes.safetensors" "$out/boxes-train/images.npy" "$out/boxes-test/images.npy" \
        --boxes "$out/boxes-test/boxes.npy" -- --validation 0 --epochs 30 --batch 8 --lr 0.001
fi

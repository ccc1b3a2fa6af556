#!/usr/bin/env bash
# Usage: training.sh BASE TRAIN_FOLDER TEST_FOLDER OUT [NAME…]: trains codes for one deployed model and scores
# them on the test images, each slot of each group lost in turn. Without names, all of the list below.
# Prints one row per code: CPU seconds of the training, agreement, A_d.
set -euo pipefail
base=$1 train=$2 test=$3 out=$4
shift 4
mkdir -p "$out"

# Name, k, and the arguments of parm-train.
list() {
    cat <<'LIST'
paper-10 2 parity --code sum --recipe paper --epochs 10
paper-10 3 parity --code sum --recipe paper --epochs 10
paper-10 4 parity --code sum --recipe paper --epochs 10
paper-concat-10 2 parity --code concat --recipe paper --epochs 10
all-30 2 parity --code sum --epochs 30
mse-30 2 parity --code sum --epochs 30 --loss mse
kl-1-30 2 parity --code sum --epochs 30 --temperature 1
kl-10-30 2 parity --code sum --epochs 30 --temperature 10
cross-entropy-30 2 parity --code sum --epochs 30 --loss cross-entropy
random-30 2 parity --code sum --epochs 30 --init random
constant-30 2 parity --code sum --epochs 30 --schedule constant
slow-30 2 parity --code sum --epochs 30 --lr 0.001
small-30 2 parity --code sum --epochs 30 --batch 64 --lr 0.002
moved-30 2 parity --code sum --epochs 30 --augment shift=1
moved 2 parity --code sum --augment shift=1
default 2 parity --code sum
default 3 parity --code sum
default 4 parity --code sum
wide 2 parity --code sum --parity-width 4
wide 3 parity --code sum --parity-width 4 --epochs 200
wide 4 parity --code sum --parity-width 4 --epochs 200
concat 2 parity --code concat
concat 4 parity --code concat
coders 2 coders
coders-10 2 coders --epochs 10
coders-moved-10 2 coders --epochs 10 --augment shift=1
coders-mse-10 2 coders --epochs 10 --loss mse
LIST
}

# Repeats a stream k times, as `parm-decode --erase each` does.
times() {
    local files=()
    for ((i = 0; i < $1; i++)); do files+=("$2"); done
    parm-data cat "${files[@]}"
}

wanted=" $* "
printf '%-18s %2s %8s %10s %8s\n' name k seconds agreement A_d
list | while read -r name k what; do
    [[ $wanted == "  " || $wanted == *" $name "* ]] || continue
    code=$out/$name-$k
    read -ra arguments <<< "$what"
    if [ ! -e "$code/code.json" ]; then
        TIMEFORMAT='%U'
        { time parm-train "${arguments[@]}" -k "$k" --base "$base" --data "$train/images.npy" \
            --labels "$train/labels.npy" -o "$code" 2>&3; } 3>&2 2> "$code.seconds"
    fi
    rows=$(parm-data info --json "$test/images.npy" | sed 's/.*"rows": *\([0-9]*\).*/\1/')
    parm-data slice ":$((rows / k * k))" "$test/images.npy" > "$out/x.npy"
    parm-data slice ":$((rows / k * k))" "$test/labels.npy" > "$out/y.npy"
    parm-infer --threads 1 -m "$base" "$out/x.npy" > "$out/own.npy"
    parity=$base
    [ ! -e "$code/parity-0.safetensors" ] || parity=$code/parity-0.safetensors
    parm-encode --code "$code" --threads 1 "$out/x.npy" | parm-infer --threads 1 -m "$parity" > "$out/parity.npy"
    parm-decode --code "$code" --threads 1 --parity "$out/parity.npy" --erase each \
        --erased-out "$out/have.npy" "$out/own.npy" > "$out/rebuilt.npy"
    times "$k" "$out/own.npy" > "$out/reference.npy"
    times "$k" "$out/y.npy" > "$out/truth.npy"
    parm-score --labels "$out/truth.npy" --reference "$out/reference.npy" --available "$out/have.npy" \
        "$out/rebuilt.npy" > "$out/score"
    printf '%-18s %2s %8.0f %10s %8s\n' "$name" "$k" "$(< "$code.seconds")" \
        "$(awk '$1 == "agreement" {print $3}' "$out/score")" "$(awk '$1 == "A_d" {print $3}' "$out/score")"
done

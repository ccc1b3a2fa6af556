#!/usr/bin/env bash
# Usage: programs.sh TRAIN_FOLDER TEST_FOLDER OUT [NAME…]: parity models of exported programs (.pt2), k = 2. The names
# are vit, mobile and resnet18; without names, all.
#
# Two models that programs.py trains in PyTorch, a small vision transformer and a small MobileNet; and a ResNet-18 of
# parm-train, as its own file and exported, both trained by the same settings. PYTHON is one that has torch 2.11.
# Prints one row per training; the seconds are of the clock and, after it, of the processor. What is there already is
# not trained again.
set -euo pipefail
experiments=$(cd "$(dirname "$0")" && pwd)
train=$1 test=$2 out=$3
python=${PYTHON:-python3}
shift 3
mkdir -p "$out"
wanted=" $* "

wants() { [[ $wanted == "  " || $wanted == *" $1 "* ]]; }

# Runs a command that makes a file or a directory, and keeps its time in FILE.seconds.
made() { # FILE COMMAND…
    local file=$1 TIMEFORMAT='%R %U'
    shift
    [ -e "$file.seconds" ] || { { time "$@" 2>&3; } 3>&2 2> "$file.time" && mv "$file.time" "$file.seconds"; }
}

row() { # NAME CODE EPOCHS ROWS SECONDS_FILE TEST_ROWS AGREEMENT A_a A_d
    local clock processor
    read -r clock processor < "$5"
    printf '%-20s %-7s %6s %6s %7.0f %9.0f %6s %7s %10s %7s\n' \
        "$1" "$2" "$3" "$4" "$clock" "$processor" "$6" "$8" "$7" "$9"
}

# Trains a parity model and scores it on the test rows, each slot of each group lost in turn.
parity() { # NAME MODEL CODE EPOCHS DATA TEST OPTIONS…
    local name=$1 model=$2 code=$3 epochs=$4 data=$5 test=$6 directory=$out/$1-$3
    shift 6
    made "$directory" parm-train parity --base "$model" --code "$code" -k 2 --data "$data/images.npy" \
        --labels "$data/labels.npy" --epochs "$epochs" --threads 1 --force -o "$directory" "$@"
    local own=$out/$name-own.npy score=$directory/score trained=$directory/parity-0.pt2
    [ -e "$trained" ] || trained=$directory/parity-0.safetensors
    [ -e "$own" ] || parm-infer --threads 1 -m "$model" "$test/images.npy" > "$own"
    parm-encode --code "$directory" --threads 1 "$test/images.npy" |
        parm-infer --threads 1 -m "$trained" > "$directory/outputs.npy"
    parm-decode --code "$directory" --threads 1 --parity "$directory/outputs.npy" --erase each \
        --erased-out "$directory/have.npy" "$own" > "$directory/rebuilt.npy"
    parm-score -k 2 --labels "$test/labels.npy" --reference "$own" --available "$directory/have.npy" --copies 2 \
        "$directory/rebuilt.npy" > "$score"
    row "$name" "$code" "$epochs" "$(rows "$data")" "$directory.seconds" "$(rows "$test")" \
        "$(awk '$1 == "agreement" {print $3}' "$score")" "$(awk '$1 == "A_a" {print $3}' "$score")" \
        "$(awk '$1 == "A_d" {print $3}' "$score")"
}

rows() { parm-data info --json "$1/images.npy" | sed 's/.*"rows": *\([0-9]*\).*/\1/'; }

# The first rows of a folder.
first() { # ROWS FOLDER OUT
    mkdir -p "$3"
    for name in images labels; do parm-data slice ":$1" "$2/$name.npy" > "$3/$name.npy"; done
}

printf '%-20s %-7s %6s %6s %7s %9s %6s %7s %10s %7s\n' \
    model code epochs rows seconds processor tested A_a agreement A_d

# The deployed models, by epochs of PyTorch and of their parity models.
while read -r name own epochs; do
    wants "$name" || continue
    made "$out/$name.pt2" "$python" "$experiments/programs.py" train "$name" "$train" "$test" "$own" "$out/$name.pt2"
    row "$name.pt2" - "$own" "$(rows "$train")" "$out/$name.pt2.seconds" - - - -
    for code in sum concat; do parity "$name" "$out/$name.pt2" $code "$epochs" "$train" "$test"; done
done <<< "vit 5 20
mobile 2 5"

wants resnet18 || exit 0

# ResNet-18 costs 100 times as much: few rows, in smaller minibatches.
first 2000 "$train" "$out/few"
first 2000 "$test" "$out/few-test"
made "$out/resnet18.safetensors" parm-train base --model resnet18 --data "$out/few/images.npy" \
    --labels "$out/few/labels.npy" --epochs 4 --threads 1 -o "$out/resnet18.safetensors"
row resnet18 - 4 2000 "$out/resnet18.safetensors.seconds" - - - -
made "$out/resnet18.pt2" "$python" "$experiments/programs.py" convert resnet18 \
    "$out/resnet18.safetensors" "$out/resnet18.pt2"
for form in safetensors pt2; do
    parity "resnet18-$form" "$out/resnet18.$form" sum 6 "$out/few" "$out/few-test" --batch 32
done
echo "Loss and agreement on the rows kept for validation, epoch by epoch:"
for form in safetensors pt2; do
    echo "resnet18.$form"
    cat "$out/resnet18-$form-sum/run/parity-0/metrics.jsonl"
done

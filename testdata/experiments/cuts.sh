#!/usr/bin/env bash
# Usage: cuts.sh TRAIN_FOLDER TEST_FOLDER WORDNET_FOLDER OUT [NAME…]: codes behind a cut of a model. The names are text and
# images; without names, both.
#
# TRAIN_FOLDER and TEST_FOLDER hold MNIST as `parm-data idx` writes it, WORDNET_FOLDER has data.noun of WordNet 3.0. PYTHON
# is one that has torch 2.11; cuts.py trains and exports the models. The part before a node makes the values that are coded,
# the part behind it is the deployed model of a parity model, or is trained with one. Each slot of each group is lost in
# turn. A row has how many numbers a query has there, the share of the model's time that the part before the node takes (the
# least median of a batch of seven runs each), and the seconds of the processor of the training. What is there already is
# not trained again.
set -euo pipefail
experiments=$(cd "$(dirname "$0")" && pwd)
train=$1 test=$2 wordnet=$3 out=$4
python=${PYTHON:-python3}
shift 4
mkdir -p "$out"
wanted=" $* "

wants() { [[ $wanted == "  " || $wanted == *" $1 "* ]]; }

# Runs a command that makes a file or a directory, and keeps its seconds of the processor.
made() { # FILE COMMAND…
    local file=$1 TIMEFORMAT=%U
    shift
    [ -e "$file.seconds" ] || { { time "$@" 2>&3; } 3>&2 2> "$file.time" && mv "$file.time" "$file.seconds"; }
}

# The least median time of a batch of a model, and of its part before a node, in turns: their ratio. Batches are small, so
# that other processes seldom interrupt one.
share() { # MODEL NODE QUERIES
    for _ in 1 2 3 4 5 6 7; do
        parm-infer --threads 1 --batch 32 -m "$1" --timings "$out/whole.json" "$3" > "$out/outputs.npy"
        parm-infer --threads 1 --batch 32 -m "$1" --to "$2" --timings "$out/front.json" "$3" > "$out/outputs.npy"
        python3 -c 'import json, sys; print(*(json.load(open(file))["seconds"]["compute"]["median"] for file in sys.argv[1:]))' \
            "$out/whole.json" "$out/front.json"
    done | awk 'NR == 1 {whole = $1; front = $2} {if ($1 < whole) whole = $1; if ($2 < front) front = $2}
        END {printf "%.1f%%\n", 100 * front / whole}'
}

# The values of the training and of the test rows at a node, and the model of what is behind it: NAME-NODE.
cut() { # NAME NODE TRAINING_ROWS TEST_ROWS
    local name=$1 node=$2 folder=$out/$1-$2
    mkdir -p "$folder"
    if [ "$node" = input ]; then
        ln -sf "$(realpath "$out/$name.pt2")" "$folder/behind.pt2"
        ln -sf "$(realpath "$3")" "$folder/train.npy"
        ln -sf "$(realpath "$4")" "$folder/test.npy"
        echo 0% > "$folder/share"
    else
        [ -e "$folder/behind.pt2" ] || parm-train export "$out/$name.pt2" --from "$node" -o "$folder/behind.pt2"
        [ -e "$folder/train.npy" ] || parm-infer --threads 1 -m "$out/$name.pt2" --to "$node" "$3" -o "$folder/train.npy"
        [ -e "$folder/test.npy" ] || parm-infer --threads 1 -m "$out/$name.pt2" --to "$node" "$4" -o "$folder/test.npy"
        [ -s "$folder/share" ] || share "$out/$name.pt2" "$node" "$4" > "$folder/share"
    fi
}

# Trains a code behind a node, and scores it on the test rows.
code() { # NAME NODE CODE K EPOCHS TRAINING_LABELS TEST_LABELS
    local folder=$out/$1-$2 code=$3 k=$4 epochs=$5 directory=$out/$1-$2/$3-$4 options numbers
    local model=$folder/behind.pt2
    case $code in
        joint) options=(joint --code sum) ;;
        *) options=(parity --code "$code") ;;
    esac
    made "$directory" parm-train "${options[@]}" --base "$model" -k "$k" --data "$folder/train.npy" --labels "$6" \
        --epochs "$epochs" --threads 1 --force -o "$directory"
    [ "$code" != joint ] || model=$directory/deployed.pt2
    parm-infer --threads 1 -m "$model" "$folder/test.npy" > "$directory/own.npy"
    parm-encode --code "$directory" "$folder/test.npy" | parm-infer --threads 1 -m "$directory/parity-0.pt2" \
        > "$directory/outputs.npy"
    parm-decode --code "$directory" --parity "$directory/outputs.npy" --erase each --erased-out "$directory/have.npy" \
        "$directory/own.npy" > "$directory/rebuilt.npy"
    parm-score -k "$k" --labels "$7" --reference "$directory/own.npy" --available "$directory/have.npy" --copies "$k" \
        "$directory/rebuilt.npy" > "$directory/score"
    numbers=$(parm-data info --json "$folder/test.npy" |
        python3 -c 'import json, math, sys; print(math.prod(json.load(sys.stdin)["shape"]))')
    printf '%-13s %8s %7s %-7s %2s %7s %8.0f %8s %8s %10s\n' "$2" "$numbers" "$(cat "$folder/share")" "$code" "$k" "$epochs" \
        "$(cat "$directory.seconds")" "$(awk '$1 == "A_a" {print $3}' "$directory/score")" \
        "$(awk '$1 == "A_d" {print $3}' "$directory/score")" "$(awk '$1 == "agreement" {print $3}' "$directory/score")"
}

heading() { # NAME
    echo "$1"
    printf '%-13s %8s %7s %-7s %2s %7s %8s %8s %8s %10s\n' node numbers share code k epochs seconds A_a A_d agreement
}

if wants text; then
    made "$out/glosses" "$python" "$experiments/cuts.py" glosses "$wordnet" "$out/glosses"
    made "$out/text.pt2" "$python" "$experiments/cuts.py" text "$out/glosses" 6 "$out/text.pt2"
    heading text
    while read -r node name k epochs; do
        cut text "$node" "$out/glosses/tokens.npy" "$out/glosses/test-tokens.npy"
        code text "$node" "$name" "$k" "$epochs" "$out/glosses/labels.npy" "$out/glosses/test-labels.npy"
    done <<< "transpose sum 2 20
transpose concat 2 20
transpose joint 2 10
transpose sum 3 20
transpose sum 4 20
relu sum 2 20
relu_1 sum 2 20"
    folder=$out/text-transpose
    parm-compare -m "$folder/behind.pt2" --data "$folder/test.npy" --labels "$out/glosses/test-labels.npy" -k 2,3,4 \
        --threads 1 $(for name in sum-2 concat-2 joint-2 sum-3 sum-4; do echo --code-dir "$folder/$name"; done)
fi

if wants images; then
    made "$out/images.pt2" "$python" "$experiments/cuts.py" images "$train" "$test" 4 "$out/images.pt2"
    # As many as fill groups of 2 and 3.
    for file in images labels; do parm-data slice :9996 "$test/$file.npy" > "$out/test-$file.npy"; done
    heading images
    while read -r node k; do
        cut images "$node" "$train/images.npy" "$out/test-images.npy"
        code images "$node" sum "$k" 20 "$train/labels.npy" "$out/test-labels.npy"
    done <<< "input 2
conv2d 2
relu 2
max_pool2d 2
max_pool2d_1 2
input 3
relu 3"
fi

#!/usr/bin/env bash
# Usage: joint.sh TRAIN_FOLDER TEST_FOLDER OUT [NAME…]: deployed models that are trained together with their codes.
#
# NAME is CODE-K, such as sum-4; without names, all. The deployed model is a 784-200-100-10 MLP, begun alone for 5
# epochs; it is compared with one that was trained alone for as long as a joint training. Prints a row for each
# weight λ of the loss of what is rebuilt, and writes OUT/NAME.json for parm-plot joint. What is there already is not
# trained again. Each training has one thread and all rows; seconds are those of the processor. WEIGHTS are the λ ("0.3 1"), SHARED
# are options of all trainings (--augment shift=1), and JOINT those of the joint ones.
set -euo pipefail
train=$1 test=$2 out=$3
shift 3
mkdir -p "$out"
names=("$@")
[ $# -gt 0 ] || names=(sum-2 sum-3 sum-4 sum-8 berrut-8)
weights=${WEIGHTS:-0.1 0.3 0.5 1 2}
rows=(--data "$train/images.npy" --labels "$train/labels.npy" --threads 1
    --validation 0 ${SHARED:-})

# Runs a command that makes a file or a directory, and keeps its seconds of the processor.
made() { # FILE COMMAND…
    local file=$1 TIMEFORMAT=%U
    shift
    [ -e "$file.seconds" ] || { { time "$@" 2>&3; } 3>&2 2> "$file.time" && mv "$file.time" "$file.seconds"; }
}

# A field of the row of a code in a report of parm-compare.
field() { # REPORT CODE FIELD
    python3 -c 'import json, sys
report, code, field = sys.argv[1:]
rows = [row for row in json.load(open(report))["rows"] if row["code"] == code]
print(f"{rows[0][field]:.4f}")' "$@"
}

compare() { # REPORT OPTIONS…
    local report=$1
    shift
    parm-compare -m "$out/alone.safetensors" --data "$test/images.npy" --labels "$test/labels.npy" --codes berrut \
        --json "$@" > "$report"
}

made "$out/begun.safetensors" parm-train base "${rows[@]}" --epochs 5 --force -o "$out/begun.safetensors"
made "$out/alone.safetensors" parm-train base "${rows[@]}" --epochs 100 --batch 512 --lr 0.003 --warm-up 1 --clip 1 \
    --weight-decay 0 --force -o "$out/alone.safetensors"

printf '%-9s %3s %9s %7s %9s %7s %10s\n' code k training seconds deployed A_d agreement
row() { # NAME TRAINING SECONDS REPORT CODE
    printf '%-9s %3s %9s %7.0f %9s %7s %10s\n' "${1%-*}" "${1#*-}" "$2" "$3" "$(field "$4" "$5" deployed)" \
        "$(field "$4" "$5" A_d)" "$(field "$4" "$5" agreement)"
}

for name in "${names[@]}"; do
    code=${name%-*} k=${name#*-} reports=()
    # The code of the model that was trained alone.
    apart=$out/$name-apart report=$out/$name-apart.json
    if [ "$code" = sum ]; then
        made "$apart" parm-train parity --base "$out/alone.safetensors" "${rows[@]}" --code sum -k "$k" --force -o "$apart"
        compare "$report" -k "$k" --code-dir "$apart"
        row "$name" apart "$(cat "$apart.seconds")" "$report" "$code:trained"
    else
        compare "$report" -k "$k"
        row "$name" apart "$(cat "$out/alone.safetensors.seconds")" "$report" "$code"
    fi
    reports+=("$report")
    for weight in $weights; do
        directory=$out/$name-$weight report=$out/$name-$weight.json
        made "$directory" parm-train joint --base "$out/begun.safetensors" "${rows[@]}" --code "$code" -k "$k" \
            --weight "$weight" --force -o "$directory" ${JOINT:-}
        compare "$report" -k "$k" --code-dir "$directory"
        row "$name" "$weight" "$(cat "$directory.seconds")" "$report" "$code:joint"
        reports+=("$report")
    done
done

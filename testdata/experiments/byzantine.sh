#!/usr/bin/env bash
# Usage: byzantine.sh MODEL IMAGES.npy LABELS.npy: makes answers wrong, and lets parm-decode find them.
# For each size of a group and kind of error: the accuracy over all queries if nothing is located, and
# for each locator the share of the wrong answers that it found, and the accuracy without them.
set -euo pipefail
model=$1 images=$2 labels=$3
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
printf '%3s %2s %-10s %10s %10s %8s %10s %8s\n' k e error 'no locator' vote A residual A
for size in '8 1' '12 1' '12 2' '12 3'; do
    read -r k e <<< "$size"
    code=(--code berrut -k "$k" --byzantine "$e")
    parm-encode "${code[@]}" --tail drop "$images" | parm-infer --threads 1 -m "$model" > "$work/answers.npy"
    for error in noise=1 noise=10 noise=100 flip stale; do
        row=$(printf '%3s %2s %-10s' "$k" "$e" "$error")
        for locate in none vote residual; do
            locator=()
            test "$locate" = none || locator=(--locate "$locate" --threshold 0)
            parm-decode "${code[@]}" --corrupt "$error" "${locator[@]}" -v "$work/answers.npy" \
                2> "$work/report" > "$work/rebuilt.npy"
            rows=$(sed 's/.*wrote \([0-9]*\) predictions.*/\1/' "$work/report")
            parm-data slice ":$rows" "$labels" > "$work/labels.npy"
            accuracy=$(parm-score --labels "$work/labels.npy" "$work/rebuilt.npy" | awk '$1 == "A_a" {print $3}')
            test "$locate" = none ||
                row+=$(sed 's/.*found \([0-9]*\) of \([0-9]*\).*/\1 \2/' "$work/report" | awk '{printf " %10.3f", $1 / $2}')
            row+=$(printf " %8s" "$accuracy")
        done
        echo "$row"
    done
done

#!/bin/bash
# The tails of all models of a cluster at one rate, with the first seed: records, and a plot of them.
# Usage: tails.sh CLUSTER.json RATE QUERIES FOLDER [OPTION of parm-plot latency]...
set -euo pipefail
cluster=$1 rate=$2 queries=$3 folder=$4
rm -rf "$folder" && mkdir -p "$folder"
names=$(python3 -c 'import json, sys; [print(model["name"]) for model in json.load(open(sys.argv[1]))["models"]]' "$cluster")
records=()
while read -r name; do
  records+=("$folder/$name.jsonl")
  parm-sim "$cluster" -m "$name" --rate "$rate" --queries "$queries" --records "${records[-1]}" > "$folder/$name.txt"
done <<< "$names"
parm-plot latency "${records[@]}" "${@:5}"

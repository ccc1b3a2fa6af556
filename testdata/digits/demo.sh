#!/usr/bin/env bash
# The whole pipeline on handwritten digits, step by step. Usage: demo.sh OUTPUT_FOLDER
#
# A deployed model answers queries. Some of its answers are lost. A parity model, asked about the sum
# of k queries, lets us rebuild them.
set -euo pipefail

digits=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1" && rm -rf -- *.npy *.safetensors *.run code-k*

train=(--data "$digits/train.npy" --labels "$digits/train-labels.npy" --threads 1 --schedule cosine)

echo "Training the deployed model ..."
parm-train base "${train[@]}" --epochs 60 -o base.safetensors

# What the deployed model says when nothing is lost.
parm-infer -m base.safetensors "$digits/test.npy" > predictions.npy

# Scores a stream in which each prediction was lost once: one line of the table.
line() { # NAME K HAVE.npy REBUILT.npy
  parm-score -k "$2" --labels "$digits/test-labels.npy" --reference predictions.npy \
    --available "$3" --copies "$2" "$4" |
    awk -v name="$1" -v k="$2" '$1 == "A_a" || /^A_o/ || $1 == "A_d" || $1 == "agreement" {v[$1] = $3}
      END {printf "%-10s %2d %8.1f%% %8s %8s %10s %11s\n",
           name, k, name == "none" ? 0 : 100 / k, v["A_a"], v["A_d"], v["A_o(0.1)"], v["agreement"]}'
}

for k in 2 3 4; do
  echo "Training the parity model for k = $k ..."
  parm-train parity "${train[@]}" --base base.safetensors --init base --code sum -k $k \
    --epochs 200 --lr 0.003 -o code-k$k

  # Encode k test queries into one and ask the parity model.
  parm-encode --code code-k$k "$digits/test.npy" | parm-infer -m code-k$k/parity-0.safetensors > parity-k$k.npy

  # Lose each prediction of a group in turn and rebuild it.
  parm-decode --code code-k$k --parity parity-k$k.npy --erase each --erased-out have-k$k.npy \
    predictions.npy > rebuilt-k$k.npy
  line sum $k have-k$k.npy rebuilt-k$k.npy >> table

  # Two trivial baselines. At equal cost, a spare worker answers one query of each group again ...
  parm-encode --code replicate -k $k "$digits/test.npy" | parm-infer -m base.safetensors |
    parm-decode --code replicate -k $k --parity - --erase each --default uniform --allow-unsolved \
      predictions.npy > replicate-k$k.npy
  line replicate $k have-k$k.npy replicate-k$k.npy >> table

  # ... or there is no spare worker, and what is lost is guessed.
  parm-decode --code none -k $k --erase each --default uniform --allow-unsolved \
    predictions.npy > none-k$k.npy
  line none $k have-k$k.npy none-k$k.npy >> table
done

echo
echo "code        k    extra      A_a      A_d   A_o(0.1)   agreement"
sort -s -k1,1r table && rm table
echo
echo "A_a: accuracy of predictions that arrived; A_d: of those that were lost and rebuilt (or guessed);"
echo "A_o(0.1): overall, when one in ten is lost; agreement: rebuilt as the deployed model has it."

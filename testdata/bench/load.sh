#!/usr/bin/env bash
# Do parm-load and perf_analyzer tell the same of one server? Both send requests at the same rate, with
# Poisson arrivals, in turns, to the same parm-serve with synthetic instances; medians and P99 in ms, each
# the median of three turns. Usage: load.sh FOLDER_OF_PROGRAMS [FOLDER_OF_TEST_INTEGRATION]
#
# perf_analyzer is where `make test-integration` put it; without it there is nothing to compare.
set -euo pipefail

export PATH="$1:$PATH"
integration=$(realpath -m "${2:-target/integration}")
analyzer=$integration/wheel/tritonclient-2.47.0.data/data/bin/perf_analyzer
if [ ! -x "$analyzer" ] || [ ! -x "$integration/venv/bin/python" ]; then
  echo "perf_analyzer is not there (make test-integration fetches it): parm-load is not compared with it"
  exit 0
fi
site=$("$integration/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
work=$(mktemp -d)
trap 'kill "${server:-0}" 2> /dev/null || true; rm -rf "$work"' EXIT
cd "$work"
ln -s "$site"/nvidia_pytriton.libs/libcudart*.so.12* libcudart.so.12
libraries=$work:$site/nvidia_pytriton.libs
libraries=$libraries:$("$integration/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')

median() { sort -g | sed -n 2p; }

# Each prints a median and a P99 in ms.
ours() { # PROTOCOL, RATE, SEED
  parm-load "$1" -m toy --rate "$2" --seconds 5 --seed "$3" --json -q > ours.json
  for of in median p99; do grep -o "\"$of\":[0-9.e-]*" ours.json | head -1 | cut -d: -f2; done | paste -sd ' '
}
theirs() { # PROTOCOL, RATE
  local protocol=${1%%:*} at=${1##*/}
  LD_LIBRARY_PATH=$libraries "$analyzer" -m toy -i "$protocol" -u "$at" -a --request-rate-range "$2" \
    --request-distribution poisson --request-count "$((5 * $2))" -f theirs.csv > theirs.log 2>&1 || { tail -5 theirs.log >&2; exit 1; }
  awk -F, 'NR == 1 {for (i = 1; i <= NF; i++) at[$i] = i}
    NR == 2 {printf "%.3f %.3f\n", $at["p50 latency"] / 1000, $at["p99 latency"] / 1000}' theirs.csv
}

rate=500
printf '%-34s %10s %10s %10s %10s\n' "ms, at $rate/s" "parm-load" "P99" "analyzer" "P99"
for case in 'at once|"distribution": "constant", "ms": 0' 'always 5 ms|"distribution": "constant", "ms": 5' \
  'log-normal around 5 ms|"distribution": "log-normal", "median_ms": 5, "sigma": 0.5'; do
  IFS='|' read -r name service <<< "$case"
  cat > toy.json << END
{"models": [{"name": "toy", "placement": "pooled",
  "inputs": [{"name": "x", "datatype": "FP32", "shape": [8]}],
  "outputs": [{"name": "y", "datatype": "FP32", "shape": [3]}],
  "instances": [{"synthetic": {"behavior": {"service": {$service}}}, "capacity": 64}]}]}
END
  parm-serve toy.json --http 127.0.0.1:18460 --grpc 127.0.0.1:18461 -q & server=$!
  until curl -sf http://127.0.0.1:18460/v2/health/ready > /dev/null; do sleep 0.05; done
  for url in http://127.0.0.1:18460 grpc://127.0.0.1:18461; do
    rm -f ours theirs
    for turn in 1 2 3; do
      ours "$url" "$rate" "$turn" >> ours
      theirs "$url" "$rate" >> theirs
    done
    printf '%-34s' "$name, ${url%%:*}"
    for file in ours theirs; do
      for column in 1 2; do printf ' %10.3f' "$(cut -d' ' -f$column $file | median)"; done
    done
    echo
  done
  kill "$server"; wait "$server" || true
done

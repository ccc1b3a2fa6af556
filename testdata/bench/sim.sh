#!/usr/bin/env bash
# Does parm-sim tell the truth? The same small cluster, coded and not, for real (parm-serve with synthetic
# instances under parm-load, three seeds) and simulated (50 seeds): the real median, P99 and P99.9, medians
# of the three, should lie within the 95 % band of the simulated ones.
# Usage: sim.sh FOLDER_OF_PROGRAMS [SECONDS_OF_A_RUN]
#
# What a call costs beside the instance's own time (timers of 1 ms, the transport, this machine and what else
# it does) is measured before each run at the same rate, on instances that always take as long and are so
# many that nothing waits; nothing else is fitted. Needs python3.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
export PATH="$1:$PATH" SECONDS_OF_A_RUN="${2:-60}"
work=$(mktemp -d)
cd "$work"
trap 'kill "${server:-0}" 2> /dev/null || true; rm -rf "$work"' EXIT

loaded() { # CLUSTER, RATE, QUERIES, SEED, RECORDS
  parm-serve "$1" --http 127.0.0.1:18500 --grpc 127.0.0.1:18501 -q & server=$!
  until curl -sf http://127.0.0.1:18500/v2/health/ready > /dev/null; do sleep 0.05; done
  parm-load http://127.0.0.1:18500 -m m --rate "$2" --queries "$3" --seed "$4" --records "$5" -q > /dev/null
  kill "$server"; wait "$server" || true
}

python3 "$here/sim.py" constant > constant.json
for policy in none coded; do
  for seed in 1 2 3; do
    loaded constant.json 120 1200 "$seed" constant.jsonl
    cat constant.jsonl >> "$policy-overhead.jsonl"
    python3 "$here/sim.py" "$policy" "$seed" > real.json
    loaded real.json 120 "$((120 * SECONDS_OF_A_RUN))" "$seed" "$policy-$seed.jsonl"
  done
  python3 "$here/sim.py" "$policy" 0 "$policy-overhead.jsonl" > simulated.json
  for seed in $(seq 101 150); do
    parm-sim simulated.json --rate 120 --queries "$((120 * SECONDS_OF_A_RUN))" --seed "$seed" --json
  done > "$policy-simulated.jsonl"
  python3 "$here/sim.py" verdict "$policy"
done

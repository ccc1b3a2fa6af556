#!/usr/bin/env bash
# The second act: models on servers of which one stalls again and again and one is killed, with load on
# them, and parm-serve before them. Usage: serve.sh FOLDER, where demo.sh left its models.
#
# Three ways to arrange them, side by side: without redundancy; with half as many instances more, all of
# them running the deployed model; and with as many, which also hold a parity model, coded.
set -euo pipefail

digits=$(cd "$(dirname "$0")" && pwd)
cd "$1"
seconds=${SECONDS_OF_LOAD:-8}
rate=${RATE:-150}

running=()
trap 'kill -CONT "${running[@]}" 2>/dev/null || true; kill -9 "${running[@]}" 2>/dev/null || true' EXIT

# Starts a server, waits until it is ready, and sets pid and address.
start() { # CONFIG.json
  # Servers of one thread each: there are many on this machine.
  parm-serve "$1" --http 127.0.0.1:0 --workers 1 --threads 1 --log-format json 2> "$1.log" &
  pid=$!
  # The shell is not to tell of its end.
  disown
  running+=("$pid")
  for _ in $(seq 300); do
    address=$(sed -n 's/.*"http":"\([0-9.:]*\)".*/\1/p' "$1.log" | head -1)
    [ -n "$address" ] && parm-load "http://$address" --model digits --rate 100 --queries 1 --warm-up 0 \
      --data "$digits/test.npy" -q > /dev/null 2>&1 && return
    sleep 0.1
  done
  echo "serve.sh: $1 does not get ready: $(tail -1 "$1.log")" >&2
  exit 1
}

# A model server with both models, one query at a time.
cat > server.json << END
{"grpc": null, "models": [
  {"name": "digits", "files": {"deployed": "base.safetensors"},
   "instances": [{"embedded": {}, "roles": ["deployed"]}]},
  {"name": "digits-parity-0", "files": {"deployed": "code-k2/parity-0.safetensors"},
   "instances": [{"embedded": {}, "roles": ["deployed"]}]}]}
END

# What stands before them.
front() { # INSTANCES MORE
  local instances=() of
  for of in "${addresses[@]:0:$1}"; do
    instances+=("{\"remote\": {\"url\": \"http://$of\", \"encoding\": \"binary\"}}")
  done
  cat << END
{"grpc": null, "models": [{"name": "digits", "placement": "pooled", $2
  "inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 8, 8]}],
  "outputs": [{"name": "output", "datatype": "FP32", "shape": [10]}],
  "instances": [$(IFS=,; echo "${instances[*]}")]}]}
END
}

coded='"redundancy": {"policy": "coded", "code": {"name": "directory", "directory": "code-k2"}},'
printf '%-16s %9s %9s %9s %9s %9s %9s\n' "" instances "median" "P99" "P99.9" lost rebuilt
for scheme in "none 4" "equal 6" "coded 6"; do
  read -r name count <<< "$scheme"
  addresses=() servers=()
  for server in $(seq "$count"); do
    cp server.json "server-$server.json"
    start "server-$server.json"
    addresses+=("$address") servers+=("$pid")
  done
  front "$count" "$([ "$name" = coded ] && echo "$coded")" > front.json
  start front.json
  # The first server stalls for 0.3 s of each second; the second is killed half-way.
  (while kill -STOP "${servers[0]}"; do sleep 0.3; kill -CONT "${servers[0]}"; sleep 0.7; done) 2> /dev/null &
  stalls=$!
  running+=("$stalls")
  (sleep "$((1 + seconds / 2))" && kill -9 "${servers[1]}") &
  parm-load "http://$address" --model digits --rate "$rate" --seconds "$seconds" --data "$digits/test.npy" \
    --encoding binary --seed 1 --json -q > "load-$name.json"
  value() { grep -o "\"$1\":[0-9.e-]*" "load-$name.json" | head -1 | cut -d: -f2; }
  rebuilt=$(value reconstructed)
  printf '%-16s %9d %9.1f %9.1f %9.1f %9d %8.1f%%\n' "$name" "$count" "$(value median)" "$(value p99)" \
    "$(value p99.9)" "$(value failed)" "$(awk "BEGIN {print 100 * ${rebuilt:-0}}")"
  kill "$stalls" && kill -CONT "${servers[0]}"
  kill -9 "${running[@]}" 2> /dev/null || true
  running=()
done
echo
echo "Latencies in ms of $rate queries a second for $seconds s, while one server stalls for 0.3 s of each"
echo "second and one is killed; lost: queries without an answer; rebuilt: answers by decoding."

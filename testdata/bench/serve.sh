#!/usr/bin/env bash
# What parm-serve adds to the calls that go through it, beside nginx as a proxy before the same server;
# and how many queries a second it answers on one core. Usage: serve.sh FOLDER_OF_PROGRAMS
#
# Needs nginx for the comparison and wrk for the rates, from the system's packages; without them their
# lines are left out.
set -euo pipefail

export PATH="$1:$PATH"
work=$(mktemp -d)
cd "$work"
running=()
trap 'kill "${running[@]}" 2> /dev/null || true; rm -rf "$work"' EXIT
background() { "$@" 2>> log & running+=($!); disown; }

toy() { # SHAPE, INSTANCES, MORE
  cat << END
{"models": [{"name": "toy", "placement": "pooled", "names": {"parity": ["toy"]}, $3
  "inputs": [{"name": "x", "datatype": "FP32", "shape": $1}],
  "outputs": [{"name": "y", "datatype": "FP32", "shape": [3]}],
  "instances": [$2]}]}
END
}
synthetic() { echo "{\"synthetic\": {\"behavior\": {\"service\": {\"distribution\": \"constant\", \"ms\": $1}}}, \"capacity\": 64}"; }
remote() { echo "{\"remote\": {\"url\": \"$1\", \"encoding\": \"$2\"}, \"capacity\": 64}"; }
serve() { # CONFIG, PORT
  background parm-serve "$1" --http "127.0.0.1:$2" --grpc "127.0.0.1:$(($2 + 1))" -q
  until curl -sf "http://127.0.0.1:$2/v2/health/ready" > /dev/null; do sleep 0.05; done
}

# What proxies add to calls of a server: medians of five trials, in which all are called in turns.
added() { # CASE, ENCODING, RATE, DIRECT URL, NAME=URL...
  local case=$1 encoding=$2 rate=$3
  shift 3
  parm-load "direct=$1" "${@:2}" --model toy --encoding "$encoding" --rate "$rate" --seconds 1 --warm-up 0.2 \
    --trials 5 --arrivals constant --json -q > load.json
  python3 -c 'import json
for run in json.load(open("load.json"))["runs"]:
    print(run["latency_ms"]["median"], run["latency_ms"]["p99"])' > latencies
  printf '%s\n' "${@:2}" | cut -d= -f1 > names
  awk -v kind="$encoding, $case" '
    NR == 1 { median = $1; p99 = $2; next }
    { getline name < "names"
      printf "%-46s %7d %7d %8d %8d %8d %8d\n", name ", " kind, 1000 * median, 1000 * p99, 1000 * $1, 1000 * $2,
        1000 * ($1 - median), 1000 * ($2 - p99) }' latencies
}

proxy() { # PORT, TO
  cat > nginx.conf << END
worker_processes 1; daemon off; pid nginx.pid; error_log nginx.err;
events { worker_connections 1024; }
http { access_log off; client_max_body_size 64m; client_body_buffer_size 2m;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  keepalive_requests 1000000;
  upstream b { server 127.0.0.1:$2; keepalive 64; keepalive_requests 1000000; }
  server { listen 127.0.0.1:$1; location / { proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection ""; } } }
END
  background nginx -p "$work" -c nginx.conf
  until curl -sf "http://127.0.0.1:$1/v2/health/ready" > /dev/null; do sleep 0.05; done
}

has() { command -v "$1" > /dev/null; }

printf '%-46s %7s %7s %8s %8s %8s %8s\n' "us" "direct" "P99" "through" "P99" "added" "P99"
for case in "8 floats:[8]:0:500" "150528 floats:[3, 224, 224]:0:50" "150528 floats, 10 ms:[3, 224, 224]:10:50"; do
  IFS=: read -r name shape ms rate <<< "$case"
  toy "$shape" "$(synthetic "$ms")" "" > backend.json
  serve backend.json 18400
  others=()
  has nginx && proxy 18420 18400 && others=(nginx=http://127.0.0.1:18420)
  toy "$shape" "$(remote http://127.0.0.1:18400 binary)" "" > front.json
  serve front.json 18410
  added "$name" binary "$rate" http://127.0.0.1:18400 parm-serve=http://127.0.0.1:18410 "${others[@]}"
  kill "${running[-1]}"; unset 'running[-1]'; sleep 0.3
  toy "$shape" "$(remote grpc://127.0.0.1:18401 grpc)" "" > front.json
  serve front.json 18410
  added "$name" grpc "$rate" grpc://127.0.0.1:18401 parm-serve=grpc://127.0.0.1:18411
  kill "${running[@]}"; running=(); sleep 0.3
done

has wrk || { echo "wrk is not installed: no rates"; exit 0; }
cat > binary.lua << 'END'
local header = '{"inputs":[{"name":"x","shape":[1,8],"datatype":"FP32","parameters":{"binary_data_size":32}}],"parameters":{"binary_data_output":true}}'
wrk.method = "POST"
wrk.body = header .. string.rep("\0\0\128\63", 8)
wrk.headers["Inference-Header-Content-Length"] = tostring(#header)
END
rate() { # PORT
  wrk -t1 -c32 -d4 -s binary.lua "http://127.0.0.1:$1/v2/models/toy/infer" | awk '/Requests\/sec/ {printf "%d", $2}'
}
coded='"redundancy": {"policy": "coded", "code": {"name": "sum", "k": 2}},'
toy "[8]" "$(synthetic 0)" "$coded" > one.json
background taskset -c 0 parm-serve one.json --workers 1 --http 127.0.0.1:18430 --grpc 127.0.0.1:18431 -q
until curl -sf http://127.0.0.1:18430/v2/health/ready > /dev/null; do sleep 0.05; done
echo "queries a second, 8 floats, coded, embedded synthetic instances, one core: $(rate 18430) (20000 asked)"
kill "${running[-1]}"; unset 'running[-1]'
has nginx || exit 0
toy "[8]" "$(synthetic 0)" "" > backend.json
serve backend.json 18400
toy "[8]" "$(remote http://127.0.0.1:18400 binary)" "" > front.json
serve front.json 18410
toy "[8]" "$(remote http://127.0.0.1:18400 binary)" '"batch": {"max_size": 16, "delay_ms": 1},' > batched.json
serve batched.json 18440
proxy 18420 18400
nginx=$(rate 18420) plain=$(rate 18410) batched=$(rate 18440)
awk -v nginx="$nginx" -v plain="$plain" -v batched="$batched" 'BEGIN {
  printf "queries a second before a server: nginx %d, parm-serve %d (%.2f, 0.5 asked), in batches %d (%.2f, 0.8 asked)\n",
    nginx, plain, plain / nginx, batched, batched / nginx }'

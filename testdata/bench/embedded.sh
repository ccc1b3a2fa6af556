#!/usr/bin/env bash
# A ResNet-18 inside parm-serve beside the same TorchScript in Triton's Python backend and in MLServer, in turns, on all
# cores, over gRPC: one query at a time, and sixteen at once with batches. Queries a second and P99 in ms by perf_analyzer
# (which MLServer does not answer), queries a second of parm-load with sixteen always open, and its P99 at 0.7 of the rate
# of the slowest, one at a time; each the median of three turns.
# Usage: embedded.sh FOLDER_OF_PROGRAMS MODEL.pt PYTHON_WITH_TORCH [FOLDER_OF_TEST_INTEGRATION]
#
# The servers and perf_analyzer are where `make test-integration` put them; without them there is nothing to compare.
set -euo pipefail

export PATH=$(realpath "$1"):$PATH
model=$(realpath "$2")
torch=$("$3" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
integration=$(realpath -m "${4:-target/integration}")
analyzer=$integration/wheel/tritonclient-2.47.0.data/data/bin/perf_analyzer
if [ ! -x "$analyzer" ] || [ ! -x "$integration/venv/bin/python" ]; then
  echo "Triton and perf_analyzer are not there (make test-integration fetches them): embedded models are not compared"
  exit 0
fi
python=$integration/venv/bin/python
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
triton=$site/pytriton/tritonserver
libraries=$site/nvidia_pytriton.libs:$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')
work=$(mktemp -d)
trap 'kill -9 "${server:-0}" 2> /dev/null || true; rm -rf "$work"' EXIT
cd "$work"
ln -s "$site"/nvidia_pytriton.libs/libcudart*.so.12* libcudart.so.12
cores=$(nproc)

# Both servers load the model alike. Its path comes last: the servers need libraries of other versions.
cat > network.py << END
import sys
sys.path.append("$torch")
import torch
torch.set_num_threads($cores)
torch.set_flush_denormal(True)
frozen = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.load("$model").eval()))
def answer(images):
    with torch.inference_mode():
        return frozen(torch.from_numpy(images)).numpy()
END
mkdir -p models/net/1 mlserver/net
cat > models/net/config.pbtxt << 'END'
backend: "python"
max_batch_size: 16
input [{name: "x" data_type: TYPE_FP32 dims: [3, 224, 224]}]
output [{name: "y" data_type: TYPE_FP32 dims: [1000]}]
dynamic_batching {}
END
{ echo "import sys; sys.path[:0] = ['$work', '$site']"; cat << 'END'; } > models/net/1/model.py
import numpy as np
import triton_python_backend_utils as pb
from network import answer


class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        rows = np.split(answer(np.concatenate(inputs)), np.cumsum([len(x) for x in inputs])[:-1])
        return [pb.InferenceResponse([pb.Tensor("y", y)]) for y in rows]
END
cat > mlserver/net/model-settings.json << 'END'
{"name": "net", "implementation": "net.Net", "max_batch_size": 16, "max_batch_time": 0.005,
 "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3, 224, 224]}],
 "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1000]}]}
END
cat > mlserver/net.py << 'END'
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from network import answer


class Net(MLModel):
    async def predict(self, payload):
        y = NumpyCodec.encode_output("y", answer(NumpyCodec.decode_input(payload.inputs[0])))
        return InferenceResponse(model_name=self.name, id=payload.id, outputs=[y])
END
echo '{"host": "127.0.0.1", "http_port": 18470, "grpc_port": 18471, "metrics_port": 18472, "parallel_workers": 0,
  "grpc_max_message_length": 100000000}' > mlserver/settings.json
cat > parm.json << END
{"http": "127.0.0.1:18470", "grpc": "127.0.0.1:18471",
 "models": [{"name": "net", "files": {"deployed": "$model"}, "batch": {"max_size": 16}, "placement": "pooled",
   "deadline_ms": 10000, "call_timeout_ms": 10000,
   "inputs": [{"name": "x", "datatype": "FP32", "shape": [3, 224, 224]}],
   "outputs": [{"name": "y", "datatype": "FP32", "shape": [1000]}],
   "instances": [{"embedded": {"count": 1, "device": "cpu"}}]}]}
END

start() { # SERVER
  case $1 in
    parm-serve) parm-serve parm.json --threads "$cores" > "$1.log" 2>&1 & ;;
    Triton)
      cp --remove-destination "$triton/python_backend_stubs/$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')/triton_python_backend_stub" "$triton/backends/python/"
      LD_LIBRARY_PATH=$libraries "$triton/bin/tritonserver" --model-repository="$work/models" \
        --backend-directory="$triton/backends" --allow-metrics false --http-address 127.0.0.1 --http-port 18470 \
        --grpc-address 127.0.0.1 --grpc-port 18471 > "$1.log" 2>&1 & ;;
    MLServer) PYTHONPATH=$work/mlserver:$work "$integration/venv/bin/mlserver" start mlserver > "$1.log" 2>&1 & ;;
  esac
  server=$!
  for _ in $(seq 600); do curl -sf http://127.0.0.1:18470/v2/models/net/ready > /dev/null && return; sleep 0.1; done
  tail -5 "$1.log" >&2
  exit 1
}
analyze() { # CONCURRENCY: queries a second and P99 in ms
  LD_LIBRARY_PATH=$work:$libraries "$analyzer" -m net -i grpc -u 127.0.0.1:18471 -b 1 --shape x:3,224,224 \
    --concurrency-range "$1" --measurement-mode count_windows --measurement-request-count $((50 + 10 * $1)) \
    --stability-percentage 50 -f theirs.csv > theirs.log 2>&1 || { tail -5 theirs.log >&2; exit 1; }
  awk -F, 'NR == 1 {for (i = 1; i <= NF; i++) at[$i] = i}
    NR == 2 {printf "%.2f %.2f\n", $at["Inferences/Second"], $at["p99 latency"] / 1000}' theirs.csv
}
load() { # RATE, MOST OPEN: queries a second and P99 in ms; what is too many fails in parm-load at once
  parm-load grpc://127.0.0.1:18471 -m net --rate "$1" --in-flight "$2" --seconds 10 --seed 1 --json -q > ours.json 2> ours.log
  "$python" -c 'import json
run = json.load(open("ours.json"))["runs"][0]
print(run["answered"] / run["seconds"], run["latency_ms"]["p99"])'
}
median() { sort -g | sed -n 2p; }

servers=(parm-serve Triton MLServer)
turns() { # WORK ON A SERVER
  for turn in 1 2 3; do
    for name in "${servers[@]}"; do
      start "$name"
      "$@"
      kill "$server"
      wait "$server" 2> /dev/null || true
    done
  done
}
throughput() {
  for concurrency in 1 16; do
    if [ "$name" != MLServer ]; then analyze $concurrency; else echo "nan nan"; fi >> "$name-$concurrency"
  done
  load 500 1 >> "$name-alone"
  load 500 16 >> "$name-many"
}
latency() { load "$rate" 1000 >> "$name-rate"; }

turns throughput
rate=$(cut -d' ' -f1 ./*-alone | sort -g | head -1 | awk '{printf "%.1f", 0.7 * $1}')
turns latency
echo "ResNet-18 on $cores cores: queries a second and P99 in ms"
printf '%-12s %18s %18s %18s %18s %18s\n' "" "analyzer, 1" "analyzer, 16" "parm-load, 1" "parm-load, 16" "at $rate/s"
for name in "${servers[@]}"; do
  printf '%-12s' "$name"
  for what in 1 16 alone many rate; do
    for column in 1 2; do printf ' %9.2f' "$(cut -d' ' -f$column "$name-$what" | median)"; done
  done
  echo
done

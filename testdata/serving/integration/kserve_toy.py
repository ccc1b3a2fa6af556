"""KServe's Python server with the toy model of `run` and its parity model, on 127.0.0.1 alone.

Usage: kserve_toy.py HTTP_PORT GRPC_PORT
"""

import sys

http_port, grpc_port = sys.argv[1:3]
# It reads its options where it is imported.
sys.argv = ["kserve_toy", "--http_port", http_port, "--grpc_port", grpc_port, "--workers", "1"]

import numpy as np
import uvicorn
from grpc.aio import _server
from kserve import InferOutput, InferResponse, Model, ModelServer

# By itself it listens on all addresses of the machine.
config, add_port = uvicorn.Config, _server.Server.add_insecure_port
uvicorn.Config = lambda *of, **options: config(*of, **{**options, "host": "127.0.0.1"})
_server.Server.add_insecure_port = lambda own, address: add_port(own, address.replace("[::]", "127.0.0.1"))


class Toy(Model):
    def __init__(self, name):
        super().__init__(name)
        self.ready = True

    async def get_input_types(self):
        return [{"name": "x", "datatype": "FP32", "shape": [-1, 8]}]

    async def get_output_types(self):
        return [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]

    def predict(self, payload, headers=None, response_headers=None):
        x = payload.inputs[0].as_numpy()
        y = np.stack([x[:, j::3].sum(axis=1) for j in range(3)], axis=1).astype(np.float32)
        output = InferOutput(name="y", shape=list(y.shape), datatype="FP32", data=y)
        return InferResponse(payload.id, self.name, [output])


ModelServer().start([Toy("toy"), Toy("toy-parity-0")])

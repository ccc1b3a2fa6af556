"""A model of Triton's Python backend: computes an MLP of parm-train by NumPy."""

import json
import os

import numpy as np
import triton_python_backend_utils as triton


def read(path):
    """The tensors of a safetensors file, all f4, by name."""
    data = open(path, "rb").read()
    start = 8 + int.from_bytes(data[:8], "little")
    said = json.loads(data[8:start])
    said.pop("__metadata__", None)

    def tensor(of):
        assert of["dtype"] == "F32", of
        first, last = of["data_offsets"]
        return np.frombuffer(data[start + first : start + last], "<f4").reshape(of["shape"])

    return {name: tensor(of) for name, of in said.items()}


class TritonPythonModel:
    def initialize(self, args):
        folder = os.path.join(args["model_repository"], args["model_version"])
        self.tensors = read(os.path.join(folder, "model.safetensors"))
        self.layers = sorted({name.rsplit(".", 1)[0] for name in self.tensors})

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        x = triton.get_input_tensor_by_name(request, "INPUT__0").as_numpy()
        x = x.reshape(len(x), -1)
        for layer in self.layers:
            x = x @ self.tensors[layer + ".weight"].T + self.tensors[layer + ".bias"]
            if layer != self.layers[-1]:
                x = np.maximum(x, 0)
        return triton.InferenceResponse([triton.Tensor("OUTPUT__0", x.astype(np.float32))])

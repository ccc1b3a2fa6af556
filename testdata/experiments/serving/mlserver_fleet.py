"""Processes of MLServer on this machine, with a network of three linear layers, which is its own parity model."""
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

NET = """
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Net(MLModel):
    async def load(self):
        draw = np.random.default_rng(0)
        shapes = [(8, 1024), (1024, 1024), (1024, 3)]
        self.layers = [draw.standard_normal(shape, np.float32) / 32 for shape in shapes]
        return True

    async def predict(self, payload):
        y = NumpyCodec.decode_input(payload.inputs[0])
        for layer in self.layers:
            y = y @ layer
        output = NumpyCodec.encode_output("y", y)
        return InferenceResponse(model_name=self.name, id=payload.id, outputs=[output])
"""


def free_ports(count):
    """Ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def fleet(program, count, folder):
    """Starts so many, and ends them; the URLs at which they have the model m."""
    os.makedirs(os.path.join(folder, "m"), exist_ok=True)
    with open(os.path.join(folder, "net.py"), "w") as file:
        file.write(NET)
    tensor = lambda name, elements: [{"name": name, "datatype": "FP32", "shape": [-1, elements]}]
    with open(os.path.join(folder, "m", "model-settings.json"), "w") as file:
        json.dump({"name": "m", "implementation": "net.Net", "inputs": tensor("x", 8), "outputs": tensor("y", 3)}, file)
    running, urls = [], []
    try:
        for number in range(count):
            http, grpc, metrics = free_ports(3)
            settings = {"HOST": "127.0.0.1", "HTTP_PORT": http, "GRPC_PORT": grpc, "METRICS_PORT": metrics,
                        "PARALLEL_WORKERS": 0, "DEBUG": "false"}
            environment = os.environ | {f"MLSERVER_{name}": str(value) for name, value in settings.items()}
            environment |= {"PYTHONPATH": folder, "OPENBLAS_NUM_THREADS": "1"}
            with open(os.path.join(folder, f"{number}.log"), "w") as log:
                command = [program, "start", folder]
                running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            urls.append(f"http://127.0.0.1:{http}")
        for url in urls:
            ready(url)
        yield urls
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def ready(url):
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{url}/v2/models/m/ready", timeout=1)
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"{url}: MLServer did not become ready in a minute")

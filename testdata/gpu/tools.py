"""Running parm's programs, and the files that they read and write."""

import gzip
import hashlib
import itertools
import json
import os
import signal
import struct
import subprocess
import time

import numpy as np


class TimeUp(Exception):
    """The time of a step is over."""


class Failed(Exception):
    """A program that should have ended well."""


class Tools:
    """The programs of one folder, on one device; none runs beyond the deadline of a step."""

    def __init__(self, folder, device, scratch):
        self.folder, self.device, self.scratch = os.path.abspath(folder), device, scratch
        self.deadline = None
        self.numbers = itertools.count()

    def left(self):
        """Seconds until the deadline of the step."""
        return self.deadline - time.monotonic()

    def need(self, seconds):
        """Ends the step if less time is left."""
        if self.left() < seconds:
            raise TimeUp(f"{seconds:.0f} s needed, {max(self.left(), 0):.0f} s left")

    def path(self, name):
        return os.path.join(self.scratch, name)

    def program(self, name):
        return os.path.join(self.folder, f"parm-{name}")

    def run(self, name, *arguments, interrupt_when=None):
        """Runs a program; returns its exit status, standard output and standard error. As soon as
        `interrupt_when` says so it gets a SIGINT."""
        command, pipe = [self.program(name), *map(str, arguments)], subprocess.PIPE
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
        try:
            while interrupt_when and child.poll() is None and self.left() > 0:
                if interrupt_when():
                    child.send_signal(signal.SIGINT)
                    break
                time.sleep(0.02)
            out, err = child.communicate(timeout=max(self.left(), 0.1))
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            raise TimeUp(f"parm-{name} was ended at the limit") from None
        return child.returncode, out, err.decode(errors="replace")

    def ok(self, name, *arguments, **more):
        """Runs a program that must end well; returns its standard output."""
        status, out, err = self.run(name, *arguments, **more)
        if status != 0:
            raise Failed(f"parm-{name} {' '.join(map(str, arguments))}: exit {status}: {err.strip()[-500:]}")
        return out

    def on_device(self, name, *arguments, device=None, **more):
        return self.ok(name, *arguments, "--device", device or self.device, **more)

    def infer(self, model, queries, *arguments, device=None):
        """Outputs of a model, as an array."""
        out = self.path(f"infer-{next(self.numbers)}.npy")
        self.on_device("infer", "-m", model, queries, "-o", out, *arguments, device=device)
        return np.load(out)

    def timed_infer(self, model, queries, *arguments):
        """The timings of an inference, whose outputs are thrown away."""
        timings = self.path("timings.json")
        self.on_device("infer", "-m", model, queries, "-o", "/dev/null", "--timings", timings, *arguments)
        with open(timings) as file:
            return json.load(file)


def difference(found, expected):
    """The largest difference, relative to the largest expected number."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    scale = np.abs(expected).max() or 1.0
    return float(np.abs(found.astype("f8") - expected.astype("f8")).max() / scale)


def repeated_rows(path, block, rows):
    """Writes a stream of many rows that repeat those of a block."""
    with open(path, "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, *block.shape[1:])}
        np.lib.format.write_array_header_1_0(file, header)
        for begin in range(0, rows, len(block)):
            file.write(memoryview(np.ascontiguousarray(block[: rows - begin])).cast("B"))
    return path


def read_weights(path):
    """The f4 tensors of a safetensors file by name."""
    with open(path, "rb") as file:
        content = file.read()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    return {
        name: np.frombuffer(data[slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def write_linear(path, weights, query_shape):
    """Writes a model of one linear layer without bias, weights `[outputs, inputs]`. Returns the file's SHA-256."""
    outputs, inputs = weights.shape
    about = {
        "architecture": "mlp", "layers": [inputs, outputs], "output": "logits",
        "prediction_shape": [outputs], "query_shape": list(query_shape),
    }
    size = weights.nbytes
    header = {
        "__metadata__": {"parm": json.dumps(about, separators=(",", ":"))},
        "nn.0.weight": {"dtype": "F32", "shape": [outputs, inputs], "data_offsets": [0, size]},
        "nn.0.bias": {"dtype": "F32", "shape": [outputs], "data_offsets": [size, size + 4 * outputs]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    content = struct.pack("<Q", len(text)) + text + weights.astype("<f4").tobytes() + bytes(4 * outputs)
    with open(path, "wb") as file:
        file.write(content)
    return hashlib.sha256(content).hexdigest()


def write_sum_code(folder, k, model, sha256, query_shape, outputs):
    """Writes the directory of the code `sum` whose parity model is the deployed one, as is right for a linear
    model."""
    os.makedirs(folder, exist_ok=True)
    with open(model, "rb") as file, open(os.path.join(folder, "parity-0.safetensors"), "wb") as copy:
        copy.write(file.read())
    code = {
        "format": 1, "code": "sum", "k": k, "r": 1, "weights": [[1.0] * k], "query_shape": list(query_shape),
        "prediction_shape": [outputs], "output": "logits", "runs_on": "parity",
        "parity": ["parity-0.safetensors"], "encoder": None, "decoder": None,
        "deployed": {"sha256": sha256, "name": os.path.basename(model)},
        "scores": {"A_a": None, "A_d": None, "agreement": None, "n": 0},
        "made_by": {"version": "0", "command": "check"},
    }
    with open(os.path.join(folder, "code.json"), "w") as file:
        json.dump(code, file)
    return folder


def read_idx(path):
    """An IDX file, plain or gzip: images or labels of u1."""
    for name, opened in ((path, open), (path + ".gz", gzip.open)):
        if os.path.exists(name):
            with opened(name, "rb") as file:
                content = file.read()
            axes = content[3]
            shape = struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes])
            return np.frombuffer(content, "u1", offset=4 + 4 * axes).reshape(shape)
    return None


def data_set(folder, scratch):
    """MNIST if the folder has its IDX files, else the digits: paths of train and test images and labels, and a
    name. Images are f4 [1, side, side] from 0 to 1."""
    names = {
        "train": "train-images-idx3-ubyte", "train-labels": "train-labels-idx1-ubyte",
        "test": "t10k-images-idx3-ubyte", "test-labels": "t10k-labels-idx1-ubyte",
    }
    paths = {}
    for name, file in names.items():
        content = read_idx(os.path.join(folder, file))
        if content is None:
            digits = {name: os.path.join(folder, f"{name}.npy") for name in names}
            missing = [path for path in digits.values() if not os.path.exists(path)]
            if missing:
                raise SystemExit(f"check: {folder}: found neither MNIST's IDX files nor {os.path.basename(missing[0])}")
            return "digits", digits
        if content.ndim == 3:
            content = content[:, None].astype("<f4") / 255
        paths[name] = os.path.join(scratch, f"{name}.npy")
        np.save(paths[name], content)
    return "MNIST", paths

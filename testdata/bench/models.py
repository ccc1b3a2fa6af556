"""Networks that people run, beside PyTorch at its best: models.py BIN_FOLDER SCRATCH_FOLDER [NETWORK…]

For each network, batch and number of threads: milliseconds of a row in parm-infer with the exported program, with
TorchScript, and with the program as it is (--optimize off); in PyTorch operator by operator (eager), and frozen and
optimised for inference. Times are without start-up, of runs in turn, medians of three. The last column is the better
time of PyTorch's over that of the exported program; COMPILE=1 also shows torch.compile, with its seconds to compile.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
import torchvision
from torch import nn

HERE = pathlib.Path(__file__)
ROUNDS = 3
# The rows that are timed, which take a second or more.
ROWS = {"mlp": 100_000, "resnet18": 64, "mobilenet_v3_small": 192, "vit_b_16": 16, "convnext_tiny": 32}
WARM = 16


def make(name):
    """The seeded network and the shape of a query. Statistics of normalisations are not those of an untrained one."""
    torch.manual_seed(0)
    if name == "mlp":
        layers = [nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 10)]
        return nn.Sequential(*layers).eval(), (1, 28, 28)
    network = getattr(torchvision.models, name)(weights=None).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network, (3, 224, 224)


def peer(name, file, batch, threads):
    """Seconds of a row in PyTorch, as JSON on standard output."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    network, _ = make(name)
    parts = torch.from_numpy(np.load(file)).split(batch)
    found = {}
    with torch.inference_mode():
        frozen = torch.jit.freeze(torch.jit.trace(network, parts[0], check_trace=False))
        ways = {"eager": network, "optimised": torch.jit.optimize_for_inference(frozen)}
        if os.environ.get("COMPILE"):
            begin = time.perf_counter()
            ways["compile"] = torch.compile(network)
            ways["compile"](parts[0])
            found["to compile"] = time.perf_counter() - begin
        for way, model in ways.items():
            for _ in range(3):
                model(parts[0])
            begin = time.perf_counter()
            for part in parts:
                model(part)
            found[way] = (time.perf_counter() - begin) / sum(map(len, parts))
    print(json.dumps(found))


def seconds(command):
    begin = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


def main():
    programs, scratch, names = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:] or list(ROWS)
    columns = ["pt2", "pt", "pt2 off", "eager", "optimised"] + (["compile", "to compile"] if os.environ.get("COMPILE") else [])
    print(f"{'ms a row':<20} {'batch':>5} {'threads':>7} " + " ".join(f"{column:>10}" for column in columns) + f" {'ratio':>7}")
    for name in names:
        network, shape = make(name)
        program, script = scratch / f"{name}.pt2", scratch / f"{name}.pt"
        example, rows = torch.zeros(2, *shape), {0: torch.export.Dim.DYNAMIC}
        torch.export.save(torch.export.export(network, (example,), dynamic_shapes=(rows,)), program)
        torch.jit.save(torch.jit.trace(network, example, check_trace=False), script)
        files = []
        for count in (WARM, WARM + ROWS[name]):
            files.append(scratch / f"{count}-of-{shape[0]}.npy")
            np.save(files[-1], np.random.default_rng(0).random((count, *shape), dtype="f4"))
        for batch in (1, 16):
            for threads in (1, 2):
                rounds = []
                for _ in range(ROUNDS):
                    found = {}
                    for column, model, options in [("pt2", program, []), ("pt", script, []), ("pt2 off", program, ["--optimize", "off"])]:
                        command = [programs / "parm-infer", "-q", "--batch", str(batch), "--threads", str(threads), "--device", "cpu"]
                        short, long = (seconds([*command, *options, "-m", model, file]) for file in files)
                        found[column] = (long - short) / ROWS[name]
                    command = [sys.executable, HERE, "peer", name, files[1], str(batch), str(threads)]
                    found |= json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
                    rounds.append(found)
                median = {column: statistics.median(found[column] for found in rounds) for column in columns}
                times = " ".join(f"{median[column] * (1 if column == 'to compile' else 1000):10.3f}" for column in columns)
                ratio = min(median["eager"], median["optimised"]) / median["pt2"]
                print(f"{name:<20} {batch:5} {threads:7} {times} {ratio:6.2f}x  {'reached' if ratio >= 0.97 else 'MISSED'}", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "peer":
        peer(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        main()

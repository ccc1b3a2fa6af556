#!/usr/bin/env python3
"""Models of torchvision and timm as exported programs, with seeded random weights; what parm-infer computes
with them beside PyTorch. By hand: README.md says how.

Needs torch 2.11.0, torchvision 0.26.0, timm 1.0.31 and numpy 2.4.6.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

from make import export

TORCHVISION = ["resnet18", "mobilenet_v3_small", "vit_b_16", "convnext_tiny"]
TIMM = ["efficientnet_b0", "swin_tiny_patch4_window7_224", "mobilenetv4_conv_small", "mixer_b16_224"]
ROWS = 4
# The greatest difference of outputs, as a share of the largest value.
BOUND = 1e-5
# Batches of a timed run, and runs of each side, which take turns.
BATCHES, ROUNDS = 8, 5


def make(name: str) -> torch.nn.Module:
    """The seeded model. Nothing is constant (heads that begin at 0, layer scales of 1e-6), and the
    statistics of batch norms are those of random images, so that no output is degenerate."""
    torch.manual_seed(0)
    if name in TORCHVISION:
        import torchvision

        model = getattr(torchvision.models, name)(weights=None)
    else:
        import timm

        model = timm.create_model(name, pretrained=False)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.min() == parameter.max():
                parameter.add_(0.1 * torch.randn_like(parameter))
        for norm in norms:
            # The mean of what follows.
            norm.reset_running_stats()
            norm.momentum = None
        for _ in range(4 if norms else 0):
            model.train()(torch.randn(8, 3, 224, 224))
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    return model.eval()


def write(folder: str, names: list[str]):
    """Exports the models, and writes queries and outputs."""
    os.makedirs(folder, exist_ok=True)
    queries = torch.randn(ROWS, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    np.save(os.path.join(folder, "queries.npy"), queries.numpy())
    for name in names:
        model = make(name)
        export(model, queries, os.path.join(folder, f"{name}.pt2"))
        with torch.inference_mode():
            outputs = model(queries).numpy()
        np.save(os.path.join(folder, f"{name}.outputs.npy"), outputs)
        rows = np.abs(outputs - outputs.mean(0)).max() / np.abs(outputs).max()
        print(f"{name}: outputs up to {np.abs(outputs).max():.3g}; rows differ by {rows:.1%} of that", flush=True)


def infer(binaries: str, model: str, queries: str, *arguments: str):
    program = os.path.join(binaries, "parm-infer")
    subprocess.run([program, "--quiet", "--device", "cpu", "-m", model, queries, *arguments], check=True)


def compare(folder: str, binaries: str, names: list[str]) -> bool:
    """Prints the greatest difference of each model's outputs as a share of the largest value; returns whether
    all are small enough."""
    fine = True
    for name in names:
        expected = np.load(os.path.join(folder, f"{name}.outputs.npy"))
        with tempfile.TemporaryDirectory() as temporary:
            out = os.path.join(temporary, "out.npy")
            try:
                infer(binaries, os.path.join(folder, f"{name}.pt2"), os.path.join(folder, "queries.npy"), "-o", out)
            except subprocess.CalledProcessError:
                print(f"{name:32} failed", flush=True)
                fine = False
                continue
            found = np.load(out)
        # Rows of another shape must not be broadcast.
        share = np.abs(found - expected).max() / np.abs(expected).max() if found.shape == expected.shape else np.inf
        print(f"{name:32} largest difference {share:.1e}", flush=True)
        fine &= bool(share <= BOUND)
    return fine


def parm_time(folder: str, binaries: str, name: str, threads: int, queries: str) -> float:
    """ms for each row: the median of the batches of one run."""
    with tempfile.TemporaryDirectory() as temporary:
        timings = os.path.join(temporary, "timings.json")
        arguments = ["--batch", str(ROWS), "--threads", str(threads), "--timings", timings, "-o", "/dev/null"]
        infer(binaries, os.path.join(folder, f"{name}.pt2"), queries, *arguments)
        with open(timings) as file:
            return 1000 * json.load(file)["seconds"]["compute"]["median"] / ROWS


def eager_time(model: torch.nn.Module, queries: torch.Tensor, threads: int) -> float:
    """The same with PyTorch."""
    torch.set_num_threads(threads)
    times = []
    with torch.inference_mode():
        for _ in range(BATCHES):
            begin = time.perf_counter()
            model(queries)
            times.append(time.perf_counter() - begin)
    return 1000 * statistics.median(times) / ROWS


def measure(folder: str, binaries: str, names: list[str]):
    """Prints ms for each row of parm-infer and of PyTorch, with one thread and with two."""
    queries = np.load(os.path.join(folder, "queries.npy"))
    print(f"{'model':32} threads  parm-infer     PyTorch  ratio")
    with tempfile.TemporaryDirectory() as temporary:
        many = os.path.join(temporary, "many.npy")
        np.save(many, np.tile(queries, (BATCHES, 1, 1, 1)))
        for name in names:
            model = make(name)
            for threads in (1, 2):
                ours, eager = [], []
                for _ in range(ROUNDS):
                    ours.append(parm_time(folder, binaries, name, threads, many))
                    eager.append(eager_time(model, torch.from_numpy(queries), threads))
                own, other = statistics.median(ours), statistics.median(eager)
                print(f"{name:32} {threads:7} {own:8.2f} ms {other:8.2f} ms {own / other:6.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="where models, queries and outputs are; made if there is no --bin")
    parser.add_argument("--bin", metavar="FOLDER", help="compare with parm-infer of this folder")
    parser.add_argument("--time", action="store_true", help="with --bin: print times beside PyTorch's")
    parser.add_argument("--models", nargs="+", metavar="NAME", choices=TORCHVISION + TIMM, default=TORCHVISION + TIMM)
    arguments = parser.parse_args()
    if not arguments.bin:
        write(arguments.folder, arguments.models)
        return
    fine = compare(arguments.folder, arguments.bin, arguments.models)
    if arguments.time:
        measure(arguments.folder, arguments.bin, arguments.models)
    sys.exit(not fine)


if __name__ == "__main__":
    main()

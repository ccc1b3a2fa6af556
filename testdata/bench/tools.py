"""Whole-process times of the tools beside their peers, interleaved: tools.py BIN_FOLDER SCRATCH_FOLDER

Each line is a ratio of medians within this run; absolute times are of this machine at this time.
"""

import pathlib
import statistics
import subprocess
import sys
import time
import wave

import nets
import numpy as np
import torch
from PIL import Image

BIN, SCRATCH = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
HERE = pathlib.Path(__file__).parent
ROUNDS = 9


def seconds(command):
    begin = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


def compare(what, ours, peer, target):
    """Runs both in turn. `target` is what the ratio of times, peer over ours, should reach."""
    pairs = [(seconds(ours), seconds(peer)) for _ in range(ROUNDS + 1)][1:]
    a, b = (statistics.median(times) for times in zip(*pairs))
    verdict = "reached" if b / a >= target else "MISSED"
    print(f"{what:<58} {a:8.3f} s {b:8.3f} s {b / a:7.2f}x {target:7.2f}x  {verdict}", flush=True)


def queries(name, rows, shape):
    path = SCRATCH / name
    if not path.exists():
        block = np.random.default_rng(0).random((min(rows, 4096), *shape), dtype="f4")
        with open(path, "wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (rows, *shape)}
            np.lib.format.write_array_header_1_0(file, header)
            for begin in range(0, rows, len(block)):
                file.write(block[: rows - begin].tobytes())
    return path


def clips(name, count):
    """A data set of one-second clips, of one word and without lists of parts."""
    folder = SCRATCH / name
    if not (folder / "testing_list.txt").exists():
        (folder / "word").mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for i in range(count):
            with wave.open(str(folder / "word" / f"{i}.wav"), "wb") as clip:
                clip.setparams((1, 2, 16000, 0, "NONE", ""))
                clip.writeframes(rng.integers(-9999, 9999, 16000, "<i2").tobytes())
        for part in ("validation", "testing"):
            (folder / f"{part}_list.txt").touch()
    return folder


def pictures(name, count):
    """A data set of pictures of one class: slopes and some noise, as large as those of cats and dogs."""
    folder = SCRATCH / name / "class"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:375, :500]
    for i in range(count):
        planes = np.stack([x * (i % 3), y, (x + y) / 2 + i], -1) / 2
        noisy = planes % 256 + rng.normal(0, 8, planes.shape)
        Image.fromarray(np.clip(noisy, 0, 255).astype("u1")).save(folder / f"{i:04}.jpg", quality=90)
    return folder.parent


def model(name, widths):
    layers = [torch.nn.Flatten()]
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    path = SCRATCH / name
    torch.manual_seed(0)
    torch.jit.script(torch.nn.Sequential(*layers[:-1])).save(str(path))
    return path


print(f"{'':<58} {'ours':>10} {'peer':>10} {'ratio':>8} {'target':>8}")

PICTURES = (1, 28, 28)
large = queries("1g.npy", (1 << 30) // 3136 // 2 * 2, PICTURES)
small = queries("100m.npy", 100_000_000 // 3136 // 2 * 2, PICTURES)
encode = [BIN / "parm-encode", "--code", "sum", "-k", "2"]
compare("encode 1 GiB: cat FILE > /dev/null", [*encode, large], ["cat", large], 1 / 1.5)
for size, file in [("1 GiB", large), ("100 MB", small)]:
    numpy = [sys.executable, HERE / "encode.py", file]
    compare(f"encode {size}: NumPy, start-up included", [*encode, file], numpy, 3.0)

berrut = [BIN / "parm-encode", "--code", "berrut", "-k", "8", "--stragglers", "1", "--tail", "drop", large]
numpy = [sys.executable, HERE / "encode_berrut.py", large]
compare("encode 1 GiB, berrut k=8: NumPy, start-up included", berrut, numpy, 3.0)

spoken = clips("clips", 2000)
ours = [BIN / "parm-data", "speech", spoken, "-o", SCRATCH / "speech", "--threads", "1"]
numpy = [sys.executable, HERE / "speech.py", spoken, SCRATCH / "speech.npy"]
compare("speech, 2000 clips, 1 thread: NumPy, start-up included", ours, numpy, 1.0)

photos = pictures("photos", 200)
ours = [BIN / "parm-data", "images", photos, "-o", SCRATCH / "images", "--threads", "1"]
pillow = [sys.executable, HERE / "images.py", photos, SCRATCH / "images.npy"]
compare("images, 200 JPEGs, 1 thread: Pillow, start-up included", ours, pillow, 1.0)

mlp = model("mlp.pt", [784, 200, 100, 10])
wide = model("wide.pt", [784, 2048, 2048, 10])
few = queries("1000.npy", 1000, PICTURES)


def infer(model, file, batch, threads, peer=None):
    ours = [BIN / "parm-infer", "-m", model, "--batch", batch, "--threads", threads, "--device", "cpu", file]
    return ours, [sys.executable, HERE / "infer.py", peer or model, file, batch, threads]


compare("infer 1000 rows, MLP: python infer.py, start-up included", *infer(mlp, few, "256", "1"), 3.0)
for threads in ("1", "2"):
    many = queries("50000.npy", 50_000, PICTURES)
    what = f"infer 50 000 rows, wide MLP, {threads} threads: python infer.py"
    compare(what, *infer(wide, many, "256", threads), 1.0)


def rates(what, rows, target, calls):
    """Rows per second without start-up: from two lengths, so that what is done once cancels."""
    times = []
    for _ in range(ROUNDS):
        (our_short, peer_short), (our_long, peer_long) = [tuple(map(seconds, call)) for call in calls]
        times.append((our_long - our_short, peer_long - peer_short))
    a, b = (statistics.median(times) / rows for times in zip(*times))
    verdict = "reached" if b / a >= target else "MISSED"
    what = f"infer, rows a second, {what}, 1 thread: PyTorch"
    print(f"{what:<58} {1 / a:8.0f}/s {1 / b:8.0f}/s {b / a:7.2f}x {target:7.2f}x  {verdict}", flush=True)


LONG, SHORT = queries("50000.npy", 50_000, PICTURES), queries("10000.npy", 10_000, PICTURES)
for name, path in [("MLP", mlp), ("wide MLP", wide)]:
    rates(name, 40_000, 1.0, [infer(path, file, "256", "1") for file in (SHORT, LONG)])

# Exported programs beside the same networks in PyTorch, which runs them operator by operator.
pair = [queries(f"{rows}-colour.npy", rows, nets.SHAPE) for rows in (256, 2304)]
for name in nets.NETS:
    program = SCRATCH / f"{name}.pt2"
    nets.export(name, program)
    rates(f"{name}.pt2", 2048, 1 / 1.05, [infer(program, file, "64", "1", name) for file in pair])

# Training, an epoch: what further epochs add to a run, and what the rest of it takes.
digits = queries("60000.npy", 60_000, PICTURES)
classes = SCRATCH / "60000-labels.npy"
np.save(classes, np.random.default_rng(0).integers(0, 10, 60_000).astype("u1"))
SHORT, LONG = 1, 6


def training(epochs):
    ours = [BIN / "parm-train", "parity", "--recipe", "paper", "--base", mlp, "--model", "mlp", "--code", "sum", "-k", "2"]
    ours += ["--data", digits, "--labels", classes, "--epochs", str(epochs), "-o", SCRATCH / "code", "--force", "--device", "cpu"]
    peer = [sys.executable, HERE.parent / "experiments" / "epoch.py", mlp, digits, classes, "2", str(epochs)]
    return ours, peer


times = [[tuple(map(seconds, training(epochs))) for epochs in (SHORT, LONG)] for _ in range(ROUNDS // 2)]
ours, peer = (statistics.median((long[i] - short[i]) / (LONG - SHORT) for short, long in times) for i in (0, 1))
verdict = "reached" if peer / ours >= 1 else "MISSED"
print(f"{'train, MLP, k=2, one epoch: PyTorch':<58} {ours:8.3f} s {peer:8.3f} s {peer / ours:7.2f}x {1:7.2f}x  {verdict}")
start = statistics.median(short[0] for short, _ in times) - ours
verdict = "reached" if start <= 1.5 else "MISSED"
print(f"{'train, set-up (1.5 s at most)':<58} {start:8.3f} s {'':>10} {'':>8} {'':>8}  {verdict}", flush=True)


def convolutional(epochs):
    ours = [BIN / "parm-train", "base", "--model", "resnet18", "--data", images, "--labels", names, "--batch", "64"]
    ours += ["--validation", "tail:64", "--epochs", str(epochs), "-o", SCRATCH / "resnet18.safetensors", "--force", "--device", "cpu"]
    return ours, [sys.executable, HERE / "resnet.py", images, names, "64", str(epochs)]


images = queries("small-images.npy", 512, (28, 28))
names = SCRATCH / "small-images-labels.npy"
np.save(names, np.arange(512, dtype="i8") % 10)
times = [[tuple(map(seconds, convolutional(epochs))) for epochs in (1, 2)] for _ in range(3)]
ours, peer = (statistics.median(long[i] - short[i] for short, long in times) for i in (0, 1))
verdict = "reached" if peer / ours >= 1 else "MISSED"
print(f"{'train, ResNet-18, 512 images, one epoch: PyTorch':<58} {ours:8.3f} s {peer:8.3f} s {peer / ours:7.2f}x {1:7.2f}x  {verdict}", flush=True)

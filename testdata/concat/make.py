#!/usr/bin/env python3
"""Makes the fixtures of the code `concat` with real Pillow.

    python3 -m pip install numpy==2.4.6 pillow==13.0.0
    python3 testdata/concat/make.py            # writes *.npy here
    python3 testdata/concat/make.py --check    # exits 1 if a file would change

kK-SHAPE.npy holds K images [K, *SHAPE], and kK-SHAPE.tiled.npy what the code makes of them
[1, *SHAPE]: each channel of each image is shrunk by Image.resize(size, BILINEAR) in mode F, on its
own, and pasted into its cell. The values are seeded, so the files are the same, byte for byte, each
time.
"""

import io
import math
import pathlib
import sys

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
CASES = [
    (1, (1, 5, 4)),
    (2, (1, 28, 28)),
    (2, (3, 8, 12)),
    (2, (3, 9, 7)),
    (2, (10, 15)),
    (3, (2, 9, 11)),
    (4, (3, 32, 32)),
    (4, (1, 15, 17)),
    (5, (1, 16, 16)),
    (6, (4, 7, 5)),
    (8, (1, 28, 28)),
    (9, (1, 3, 3)),
    (9, (1, 20, 31)),
    (12, (2, 3, 14, 13)),
]


def images(k, shape):
    """Noise on a slope, so that a pixel out of place shows."""
    rng = np.random.default_rng([k, *shape])
    return (rng.normal(size=(k, *shape)) + np.linspace(-2, 5, shape[-1])).astype("f4")


def tiled(batch):
    k, height, width = len(batch), *batch.shape[-2:]
    columns = math.ceil(math.sqrt(k))
    rows = math.ceil(k / columns)
    planes = batch.reshape(k, -1, height, width)
    out = np.zeros(planes.shape[1:], "f4")
    for slot, channels in enumerate(planes):
        row, column = divmod(slot, columns)
        top, bottom = (at * height // rows for at in (row, row + 1))
        left, right = (at * width // columns for at in (column, column + 1))
        for channel, plane in enumerate(channels):
            small = Image.fromarray(plane).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
            out[channel, top:bottom, left:right] = np.asarray(small)
    return out.reshape(1, *batch.shape[1:])


def item(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def main():
    files = {}
    for k, shape in CASES:
        name = f"k{k}-{'x'.join(map(str, shape))}"
        batch = images(k, shape)
        files[f"{name}.npy"] = item(batch)
        files[f"{name}.tiled.npy"] = item(tiled(batch))
    found = {path.name for path in HERE.glob("*.npy")}
    changed = {name for name, content in files.items() if name not in found or (HERE / name).read_bytes() != content}
    changed |= found - files.keys()
    if "--check" in sys.argv[1:]:
        sys.exit(f"would change: {sorted(changed)}" if changed else 0)
    for name in found - files.keys():
        (HERE / name).unlink()
    for name, content in files.items():
        (HERE / name).write_bytes(content)
    print(f"{len(files)} files, {sum(map(len, files.values()))} bytes, {len(changed)} changed")


main()

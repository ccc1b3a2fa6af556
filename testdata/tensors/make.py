#!/usr/bin/env python3
"""Makes the files of tensors that parm-data convert must read, with NumPy's and safetensors' own writers.

    python3 -m pip install numpy==2.4.6 safetensors==0.8.0
    python3 testdata/tensors/make.py

x.npy and labels.npy are what the others have in them, under the names x and labels.
"""

import pathlib

import numpy as np
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).resolve().parent
rng = np.random.default_rng(0)
tensors = {
    "x": rng.normal(size=(6, 2, 3)).astype("f4"),
    "labels": rng.integers(0, 4, size=6).astype("i8"),
}
for name, tensor in tensors.items():
    np.save(HERE / f"{name}.npy", tensor)
np.savez(HERE / "plain.npz", **tensors)
np.savez_compressed(HERE / "deflated.npz", **tensors)
save_file(tensors, HERE / "set.safetensors")
np.savetxt(HERE / "labels.csv", tensors["labels"], fmt="%d")
np.savetxt(HERE / "rows.csv", tensors["x"].reshape(6, 6), delimiter=",", header="a,b,c,d,e,f", comments="")

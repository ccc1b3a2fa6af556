"""The peer of `parm-infer`: PyTorch on the same TorchScript file, or on a network of nets.py by its name.

Usage: infer.py MODEL FILE BATCH THREADS > OUTPUT
"""

import sys

import nets
import numpy as np
import torch

model, file, batch, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(threads)
model = nets.make(model) if model in nets.NETS else torch.jit.load(model).eval()
queries = torch.from_numpy(np.load(file))
with torch.inference_mode():
    outputs = torch.cat([model(rows) for rows in queries.split(batch)])
np.save(sys.stdout.buffer, outputs.numpy())

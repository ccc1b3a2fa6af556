"""The peer of `parm-infer`: PyTorch on the same TorchScript file.

Usage: infer.py MODEL FILE BATCH THREADS > OUTPUT
"""

import sys

import numpy as np
import torch

model, file, batch, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(threads)
model = torch.jit.load(model).eval()
queries = torch.from_numpy(np.load(file))
with torch.inference_mode():
    outputs = torch.cat([model(rows) for rows in queries.split(batch)])
np.save(sys.stdout.buffer, outputs.numpy())

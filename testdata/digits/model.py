#!/usr/bin/env python3
"""Trains a small convolutional network on the digits and exports it: model.pt2, a model of one's own for the
README's session. Needs torch 2.11.0 and NumPy 2.4.6. All is seeded, on one CPU thread.
"""
from pathlib import Path

import numpy as np
import torch
from torch import nn

here = Path(__file__).parent
torch.set_num_threads(1)
torch.manual_seed(0)


def load(name):
    return torch.from_numpy(np.load(here / f"{name}.npy"))


model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
    nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, 10),
)  # fmt: skip
images, labels = load("train"), load("train-labels").long()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)
for _ in range(30):
    for batch in torch.randperm(len(images)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
    schedule.step()

example = torch.zeros(2, 1, 8, 8)
batch = {0: torch.export.Dim.DYNAMIC}
program = torch.export.export(model.eval(), (example,), dynamic_shapes=(batch,))
for node in program.graph_module.graph.nodes:
    # The lines of Python that each node came from, with the paths of this machine.
    node.meta.pop("stack_trace", None)
torch.export.save(program, here / "model.pt2")
with torch.no_grad():
    right = model(load("test")).argmax(1) == load("test-labels").long()
print(f"accuracy on the test rows: {right.float().mean():.4f}")

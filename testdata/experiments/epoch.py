#!/usr/bin/env python3
"""The peer of parm-train: the reference implementation's training of a parity model (sum, minibatches of 64
groups, Adam, mean squared error), written with whole-batch operations of PyTorch.

Usage: epoch.py MODEL.pt IMAGES.npy LABELS.npy K EPOCHS

Each epoch ends with what the reference implementation reports of the validation rows, every loss simulated:
the loss, the accuracy and the agreement with the deployed model. One CPU thread, denormal numbers flushed.
"""
import sys

import numpy as np
import torch
from torch import nn

torch.set_num_threads(1)
torch.set_flush_denormal(True)
path, images, labels, k, epochs = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
base = torch.jit.load(path).eval()
queries = torch.from_numpy(np.load(images).astype("f4")).flatten(1)
truth = torch.from_numpy(np.load(labels).astype("i8"))
with torch.no_grad():
    predictions = torch.cat([base(block) for block in queries.split(1024)])
kept = len(queries) // 10
rows = len(queries) - kept

layers = []
for inputs, outputs in [(queries.shape[1], 200), (200, 100), (100, predictions.shape[1])]:
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, 0, 0.01)
    nn.init.zeros_(layer.bias)
    layers += [layer, nn.ReLU()]
parity = nn.Sequential(*layers[:-1])
adam = torch.optim.Adam(parity.parameters(), lr=1e-3, weight_decay=1e-5, fused=True)
loss_of = nn.MSELoss()


def groups(order):
    return order[: len(order) // k * k].view(-1, k)


validation = groups(rows + torch.randperm(kept))
for epoch in range(epochs):
    sums = torch.zeros(())
    for index in groups(torch.randperm(rows)).split(64):
        loss = loss_of(parity(queries[index].sum(1)), predictions[index].sum(1))
        adam.zero_grad()
        loss.backward()
        adam.step()
        sums += loss.detach()
    with torch.no_grad():
        agreed = right = count = 0
        for index in validation.split(1024):
            outputs, own = parity(queries[index].sum(1)), predictions[index]
            loss = loss_of(outputs, own.sum(1))
            rebuilt = (outputs - own.sum(1)).unsqueeze(1) + own
            agreed += (rebuilt.argmax(-1) == own.argmax(-1)).sum()
            right += (rebuilt.argmax(-1) == truth[index]).sum()
            count += index.numel()
    print(epoch + 1, float(sums), float(loss), float(agreed) / count, float(right) / count, file=sys.stderr)

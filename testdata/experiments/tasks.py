#!/usr/bin/env python3
"""Makes the data and the models of tasks.sh.

Usage: tasks.py diabetes|houses OUT_FOLDER
       tasks.py embed TRAIN_FOLDER TEST_FOLDER EPOCHS OUT.pt2

'diabetes' writes scikit-learn's data set, which the package ships: 442 patients with ten measurements, and how far the
disease went in a year; the last 100 of a seeded shuffle are the test rows. 'houses' makes 20 000 blocks of houses with
the eight features of the California data set and a price by a formula with noise; the last 4 000 are the test rows.
Features and values are standardised by the training rows. The folder gets x.npy and values.npy, and test-x.npy and
test-values.npy.

'embed' trains a metric embedding of MNIST in PyTorch, an MLP 784-256-128-64, by the softmax of scaled cosines between an
embedding and one learnt direction for each class, and exports it. A folder holds images.npy [N, 1, 28, 28] and
labels.npy, as `parm-data idx` writes them. Needs NumPy; scikit-learn for 'diabetes'; torch 2.11 for 'embed'. All is
seeded, on one CPU thread.
"""
import sys
from pathlib import Path

import numpy as np


def write(folder, rows, values, test):
    train = len(rows) - test
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, all_rows in (("x", rows), ("values", values)):
        mean, deviation = all_rows[:train].mean(0), all_rows[:train].std(0)
        scaled = ((all_rows - mean) / deviation).astype(np.float32)
        np.save(folder / f"{name}.npy", scaled[:train])
        np.save(folder / f"test-{name}.npy", scaled[train:])


def diabetes(folder):
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    order = np.random.default_rng(0).permutation(len(data.target))
    write(folder, data.data[order], data.target[order], 100)


def houses(folder, count=20_000):
    rng = np.random.default_rng(0)
    income = rng.lognormal(1.2, 0.45, count)
    age = rng.uniform(1, 52, count)
    rooms = rng.lognormal(1.6, 0.25, count) + 0.2 * income
    bedrooms = rooms / 5 + rng.normal(0, 0.1, count)
    population = rng.lognormal(7, 0.7, count)
    occupants = rng.lognormal(1, 0.25, count)
    latitude, longitude = rng.uniform(32.5, 42, count), rng.uniform(-124.3, -114.3, count)
    coast = np.abs(longitude + 0.9 * latitude + 86.5)
    price = 0.42 * income + 0.01 * age - 0.3 * np.log(occupants) + 1.2 * np.exp(-coast) + 0.3 * np.sin(latitude)
    price = np.clip(price + rng.normal(0, 0.35, count), 0.15, 5)
    rows = [income, age, rooms, bedrooms, population, occupants, latitude, longitude]
    write(folder, np.stack(rows, 1), price, 4_000)


def embed(train_folder, test_folder, epochs, path):
    import torch
    import torch.nn.functional as F
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, labels = (torch.from_numpy(np.load(f"{train_folder}/{name}.npy")) for name in ("images", "labels"))
    labels = labels.long()
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 64)
    )  # fmt: skip
    directions = nn.Parameter(torch.randn(10, 64))
    steps = epochs * -(-len(images) // 128)
    optimizer = torch.optim.AdamW([*model.parameters(), directions], lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.1)
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(images)).split(128):
            optimizer.zero_grad()
            cosines = F.normalize(model(images[batch]), dim=1) @ F.normalize(directions, dim=1).T
            loss = F.cross_entropy(16 * cosines, labels[batch])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1}: loss {total / len(images):.4f}", file=sys.stderr)
    model.eval()
    test, truth = (torch.from_numpy(np.load(f"{test_folder}/{name}.npy")) for name in ("images", "labels"))
    with torch.no_grad():
        right = (F.normalize(model(test), dim=1) @ F.normalize(directions, dim=1).T).argmax(1) == truth
    print(f"test accuracy by the nearest direction {right.float().mean():.4f}", file=sys.stderr)
    batch = {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(model, (torch.zeros(2, 1, 28, 28),), dynamic_shapes=(batch,))
    torch.export.save(program, path)


def main():
    match sys.argv[1:]:
        case ["diabetes", folder]:
            diabetes(folder)
        case ["houses", folder]:
            houses(folder)
        case ["embed", train, test, epochs, path]:
            embed(train, test, int(epochs), path)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()

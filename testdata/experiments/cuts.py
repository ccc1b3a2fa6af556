#!/usr/bin/env python3
"""Makes the data and the models of cuts.sh: models that are cut in two, so that a code works behind their front.

Usage: cuts.py glosses WORDNET_FOLDER OUT_FOLDER
       cuts.py text FOLDER EPOCHS OUT.pt2
       cuts.py images TRAIN_FOLDER TEST_FOLDER EPOCHS OUT.pt2

'glosses' reads the definitions of nouns in WordNet 3.0 (data.noun of Debian's package wordnet-base). A row is the first
16 words of a definition, as i8 tokens; its label is one of the eight largest lexicographer files, that is, what the noun
means: an act, an animal, an artifact, a communication, a location, a person, a plant or a state. The words are the 6000
most frequent ones of the training rows; 0 is no word, 1 any other word. The last 6000 rows of a seeded shuffle are the test
rows. The folder gets tokens.npy and labels.npy, test-tokens.npy, test-labels.npy and words.txt.

'text' trains an embedding and two convolutions on them, 'images' a LeNet with batch normalisation on MNIST, in folders of
images.npy [N, 1, 28, 28] and labels.npy as `parm-data idx` writes them. Both are exported. Needs NumPy and torch 2.11. All
is seeded, on one CPU thread.
"""
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np

FILES = {4: "act", 5: "animal", 6: "artifact", 10: "communication", 15: "location", 18: "person", 20: "plant", 26: "state"}
LENGTH, WORDS, TEST = 16, 6000, 6000


def glosses(wordnet, folder):
    rows = []
    for line in (Path(wordnet) / "data.noun").read_text().splitlines():
        if line.startswith("  "):
            continue  # the licence
        data, gloss = line.split(" | ", 1)
        file = int(data.split()[1])
        if file in FILES:
            rows.append((re.findall("[a-z]+", gloss.lower())[:LENGTH], sorted(FILES).index(file)))
    order = np.random.default_rng(0).permutation(len(rows))
    rows = [rows[index] for index in order]
    train, test = rows[:-TEST], rows[-TEST:]
    words = [word for word, _ in Counter(word for row, _ in train for word in row).most_common(WORDS - 2)]
    index = {word: number for number, word in enumerate(words, 2)}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "words.txt").write_text("\n".join(words) + "\n")
    for prefix, part in (("", train), ("test-", test)):
        tokens = np.zeros((len(part), LENGTH), np.int64)
        for row, (text, _) in zip(tokens, part):
            row[: len(text)] = [index.get(word, 1) for word in text]
        np.save(folder / f"{prefix}tokens.npy", tokens)
        np.save(folder / f"{prefix}labels.npy", np.array([label for _, label in part]))


def text():
    from torch import nn

    class Text(nn.Module):
        """An embedding, two convolutions over the words, and their largest values."""

        def __init__(self, width=48, channels=96):
            super().__init__()
            self.embedding = nn.Embedding(WORDS, width, padding_idx=0)
            self.first = nn.Conv1d(width, channels, 3, padding=1)
            self.second = nn.Conv1d(channels, channels, 3, padding=1)
            self.dropout = nn.Dropout(0.3)
            self.head = nn.Linear(channels, len(FILES))

        def forward(self, tokens):
            x = self.embedding(tokens).transpose(1, 2)
            x = self.second(self.first(x).relu()).relu()
            return self.head(self.dropout(x.amax(2)))

    return Text()


def images():
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(432, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def train(make, files, epochs, path, rate, decay):
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)
    torch.manual_seed(0)
    queries, labels, test, truth = (torch.from_numpy(np.load(file)) for file in files)
    labels = labels.long()
    model = make()
    steps = epochs * -(-len(queries) // 128)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(queries)).split(128):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(queries[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1}: loss {total / len(queries):.4f}", file=sys.stderr)
    model.eval()
    with torch.no_grad():
        right = torch.cat([model(rows).argmax(1) for rows in test.split(1000)]) == truth
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{count} parameters, test accuracy {right.float().mean():.4f}", file=sys.stderr)
    batch = {0: torch.export.Dim.DYNAMIC}
    torch.export.save(torch.export.export(model, (queries[:2],), dynamic_shapes=(batch,)), path)


def main():
    match sys.argv[1:]:
        case ["glosses", wordnet, folder]:
            glosses(wordnet, folder)
        case ["text", folder, epochs, path]:
            names = ("tokens", "labels", "test-tokens", "test-labels")
            train(text, [f"{folder}/{name}.npy" for name in names], int(epochs), path, 3e-3, 0.1)
        case ["images", train_folder, test_folder, epochs, path]:
            files = [f"{folder}/{name}.npy" for folder in (train_folder, test_folder) for name in ("images", "labels")]
            train(images, files, int(epochs), path, 3e-3, 0.01)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()

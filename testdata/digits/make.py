#!/usr/bin/env python3
"""Makes the .npy files of this folder from scikit-learn's copy of the UCI digits.

Needs numpy 2 and scikit-learn 1.9. The order of the rows is drawn once, with a fixed seed: the
original is ordered by writer.
"""

import pathlib

import numpy as np
from sklearn.datasets import load_digits

TEST_ROWS = 480  # divisible by 2, 3 and 4

digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))
images = (digits.images[order] / 16).astype("<f4").reshape(-1, 1, 8, 8)
labels = digits.target[order].astype("u1")

folder = pathlib.Path(__file__).parent
np.save(folder / "train.npy", images[:-TEST_ROWS])
np.save(folder / "train-labels.npy", labels[:-TEST_ROWS])
np.save(folder / "test.npy", images[-TEST_ROWS:])
np.save(folder / "test-labels.npy", labels[-TEST_ROWS:])

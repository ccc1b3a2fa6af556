"""The peer of `parm-data images`: Pillow and NumPy on every picture. Usage: images.py FOLDER OUTPUT.npy"""

import pathlib
import sys

import numpy as np
from PIL import Image

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406], "f4"), np.array([0.229, 0.224, 0.225], "f4")
RESIZE, CROP = 256, 224


def pixels(path):
    image = Image.open(path).convert("RGB")
    width, height = image.size
    short = min(width, height)
    width, height = RESIZE * width // short, RESIZE * height // short
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - CROP) / 2), round((height - CROP) / 2)
    image = image.crop((left, top, left + CROP, top + CROP))
    return ((np.asarray(image, "f4") / 255 - MEAN) / DEVIATION).transpose(2, 0, 1)


files = sorted(pathlib.Path(sys.argv[1]).glob("*/*.jpg"))
np.save(sys.argv[2], np.stack([pixels(file) for file in files]))

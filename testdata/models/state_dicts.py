#!/usr/bin/env python3
"""Makes what the tests of state dicts compare with: names and shapes of the tensors of networks written
in PyTorch 2.11, and their outputs. Weights and queries come from one formula of name and place, which
the tests know too: files of hundreds of megabytes need not be kept. One small file is saved as it is.

Needs torch and safetensors; no randomness.
"""
import json
import math
import os

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn


def numbers(name: str, count: int) -> np.ndarray:
    """Numbers within ±0.5: FNV-1a of the name, then MurmurHash3's finaliser of hash and place."""
    key = 0x811C9DC5
    for byte in name.encode():
        key = (key ^ byte) * 0x01000193 & 0xFFFFFFFF
    x = np.uint32(key) + np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9)
    for shift, factor in [(16, 0x85EBCA6B), (13, 0xC2B2AE35)]:
        x = (x ^ x >> np.uint32(shift)) * np.uint32(factor)
    x ^= x >> np.uint32(16)
    return x / 2.0**32 - 0.5


def values(name: str, shape: torch.Size) -> torch.Tensor:
    """The tensor of this name."""
    uniform = numbers(name, math.prod(shape))
    if name.endswith("running_var"):
        uniform = 1 + 0.5 * uniform
    elif len(shape) > 1:
        uniform *= math.sqrt(12 / math.prod(shape[1:]))
    elif name.endswith("weight"):
        uniform = 1 + 0.2 * uniform
    else:
        uniform *= 0.2
    return torch.from_numpy(uniform.astype(np.float32)).reshape(shape)


class LeNet(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 20, 5)
        self.fc1, self.fc2 = nn.Linear(20 * 37 * 22, 1000), nn.Linear(1000, classes)

    def forward(self, x):
        for convolution in (self.conv1, self.conv2):
            x = torch.relu(torch.max_pool2d(convolution(x), 2))
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


class VGG11(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        layers, channels = [], 1
        for width in [64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0]:
            if width:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.fc1, self.fc2 = nn.Linear(512 * 5 * 3, 512), nn.Linear(512, classes)

    def forward(self, x):
        return self.fc2(self.fc1(self.features(x).flatten(1)))


class Block(nn.Module):
    """A block of a ResNet: convolutions of these kernels, the 3×3 one that comes first with the stride."""

    def __init__(self, channels: int, width: int, stride: int, kernels: list[int]):
        super().__init__()
        out = width if len(kernels) == 2 else 4 * width
        widths = [channels] + [width] * (len(kernels) - 1) + [out]
        strided = kernels.index(3)
        for i, kernel in enumerate(kernels):
            step = stride if i == strided else 1
            convolution = nn.Conv2d(widths[i], widths[i + 1], kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{i + 1}", convolution)
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(widths[i + 1]))
        self.depth = len(kernels)
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = x
        for i in range(1, self.depth + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = torch.relu(y) if i < self.depth else y
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, channels: int, classes: int, blocks: list[int], kernels: list[int], large: bool):
        super().__init__()
        stem = (7, 2, 3) if large else (3, 1, 1)
        self.conv1, self.bn1 = nn.Conv2d(channels, 64, *stem, bias=False), nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        self.stages, channels = len(blocks), 64
        for stage, count in enumerate(blocks):
            width, layers = 64 << stage, []
            for i in range(count):
                layers.append(Block(channels, width, 2 if stage and not i else 1, kernels))
                channels = width if len(kernels) == 2 else 4 * width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


def mlp(widths: list[int]) -> nn.Module:
    layers = []
    for ends in zip(widths, widths[1:]):
        layers += [nn.Linear(*ends), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


BASIC, BOTTLENECK = [3, 3], [1, 3, 1]
MODELS = {
    "mlp": (nn.Sequential(nn.Flatten(), *mlp([784, 200, 100, 10])), [3, 1, 28, 28]),
    "lenet5": (LeNet(30), [2, 1, 161, 101]),
    "vgg11-bn": (VGG11(30), [2, 1, 161, 101]),
    "resnet18-28": (ResNet(1, 10, [2, 2, 2], BASIC, False), [3, 1, 28, 28]),
    "resnet18-32": (ResNet(3, 10, [2, 2, 2, 2], BASIC, False), [2, 3, 32, 32]),
    "resnet18-224": (ResNet(3, 4, [2, 2, 2, 2], BASIC, True), [1, 3, 224, 224]),
    "resnet152-32": (ResNet(3, 100, [3, 8, 36, 3], BOTTLENECK, False), [2, 3, 32, 32]),
    "resnet152-224": (ResNet(3, 1000, [3, 8, 36, 3], BOTTLENECK, True), [1, 3, 224, 224]),
}


def main():
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    torch.set_grad_enabled(False)
    known = {}
    for name, (model, queries) in MODELS.items():
        state = model.state_dict()
        tensors = {key: list(tensor.shape) for key, tensor in state.items() if not key.endswith("tracked")}
        model.load_state_dict({key: values(key, shape) for key, shape in tensors.items()}, strict=False)
        inputs = torch.from_numpy(2 * numbers("queries", math.prod(queries)).astype(np.float32))
        outputs = model.eval()(inputs.reshape(queries))
        # Of ResNet-152 for large images only what differs from the one for small ones is written.
        alike = "resnet152-32" if name == "resnet152-224" else None
        if alike:
            tensors = {key: shape for key, shape in tensors.items() if known[alike]["tensors"][key] != shape}
        # A thousand outputs are told by the first hundred.
        outputs = [[float(f"{value:.8g}") for value in row[:100]] for row in outputs.tolist()]
        known[name] = {"alike": alike, "queries": queries, "outputs": outputs, "tensors": tensors}
    with open("state_dicts.json", "w") as file:
        models = ",\n".join(f"{json.dumps(name)}: {json.dumps(model)}" for name, model in known.items())
        file.write(f"{{{models}}}\n")

    small = nn.Module()
    small.classifier = nn.Sequential(nn.Dropout(), *mlp([6, 5, 4, 3]))
    small = nn.DataParallel(small)
    state = {key: values(key, tensor.shape) for key, tensor in small.state_dict().items()}
    save_file(state, "mlp.safetensors", {"format": "pt"})


if __name__ == "__main__":
    main()

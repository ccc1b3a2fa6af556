#!/usr/bin/env python3
"""Makes deployed models in PyTorch and exports them as .pt2: the models of programs.sh.

Usage: programs.py train vit|mobile TRAIN_FOLDER TEST_FOLDER EPOCHS OUT.pt2
       programs.py convert resnet18 WEIGHTS.safetensors OUT.pt2

A folder holds images.npy [N, 1, 28, 28] and labels.npy, as `parm-data idx` writes them. 'convert' exports a
network with the weights that `parm-train base` wrote. Needs torch 2.11.0, NumPy and safetensors. All is seeded,
on one CPU thread.
"""
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

sys.path.append(str(Path(__file__).parent.parent / "models"))
from state_dicts import BASIC, ResNet  # noqa: E402


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        rows, tokens, width = x.shape
        qkv = self.qkv(x).reshape(rows, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(*qkv.unbind(0))
        return self.project(x.transpose(1, 2).reshape(rows, tokens, width))


class TransformerBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """A vision transformer: 16 patches of 7x7 pixels and a class token."""

    def __init__(self, width=48, heads=4, depth=3):
        super().__init__()
        self.patches = nn.Conv2d(1, width, 7, stride=7)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, 17, width))
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


def separable(inputs, outputs, stride):
    """A block of MobileNet: a depthwise convolution and a pointwise one, each with batch norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False), nn.BatchNorm2d(inputs), nn.ReLU6(),
        nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU6(),
    )  # fmt: skip


class Mobile(nn.Module):
    """A small MobileNet, which halves the images in its first layer."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
            separable(16, 32, 1), separable(32, 64, 2), separable(64, 64, 1), separable(64, 128, 2),
        )  # fmt: skip
        self.classifier = nn.Linear(128, 10)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


def load(folder):
    return [torch.from_numpy(np.load(f"{folder}/{name}.npy")) for name in ("images", "labels")]


def train(model, images, labels, epochs, rate=3e-3):
    steps = epochs * -(-len(images) // 128)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(images)).split(128):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images[batch]), labels[batch].long())
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1}: loss {total / len(images):.4f}", file=sys.stderr)


def export(model, path):
    example = torch.zeros(2, 1, 28, 28)
    batch = {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(model.eval(), (example,), dynamic_shapes=(batch,))
    torch.export.save(program, path)


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    match sys.argv[1:]:
        case ["train", name, train_folder, test_folder, epochs, path]:
            model = {"vit": ViT, "mobile": Mobile}[name]()
            train(model, *load(train_folder), int(epochs))
            model.eval()
            images, labels = load(test_folder)
            with torch.no_grad():
                right = torch.cat([model(rows).argmax(1) for rows in images.split(1000)]) == labels
            count = sum(parameter.numel() for parameter in model.parameters())
            print(f"{name}: {count} parameters, test accuracy {right.float().mean():.4f}", file=sys.stderr)
        case ["convert", "resnet18", weights, path]:
            model = ResNet(1, 10, [2, 2, 2], BASIC, False)
            found = model.load_state_dict(load_file(weights), strict=False)
            missing = [name for name in found.missing_keys if not name.endswith("num_batches_tracked")]
            if missing or found.unexpected_keys:
                sys.exit(f"programs.py: {weights}: missing {missing}, unexpected {found.unexpected_keys}")
        case _:
            sys.exit(__doc__)
    export(model, path)


if __name__ == "__main__":
    main()

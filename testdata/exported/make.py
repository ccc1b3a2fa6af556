#!/usr/bin/env python3
"""Makes the exported programs (.pt2) of the tests, and beside them what PyTorch computes with the same
models: outputs, gradients, and a training of ten steps. README.md describes the files.

Needs torch 2.11.0, transformers 5.24.0 and safetensors 0.8.0. A later torch writes only the models of
LATER, under names of their own. All is seeded, on the CPU, with one thread.
"""
import json
import os
import sys
import zipfile

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

# The release that writes all files, and the models that a later one writes again.
RELEASE = "2.11"
LATER = ["cnn", "vit"]

ROWS = 8
STEPS = 10
# The greatest differences between a program and its module, as a share of the largest value.
BOUNDS = {"outputs": 1e-5, "loss": 1e-5, "gradient": 1e-4, "after": 1e-6}
# What a program does not compute. A graph of evaluation mode does not count batches; the graph of tied
# weights uses one of them, and torch.export.load makes the other one a tensor of its own.
ABSENT = {
    ("cnn", "after.bn1.num_batches_tracked"),
    ("cnn", "after.bn2.num_batches_tracked"),
    ("tied", "gradient.first.weight"),
}


def export(model, example, path):
    """Exports a model of one input; the example has two rows or more. The README of the project quotes
    these lines."""
    batch = {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(model.eval(), (example,), dynamic_shapes=(batch,))
    torch.export.save(program, path)


class CNN(nn.Module):
    """Batch norms whose momentum and epsilon are not the defaults, and a dropout."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.3)
        self.conv2 = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(12, eps=1e-3, momentum=0.2)
        self.fc = nn.Linear(12 * 2 * 2, 5)

    def forward(self, x):
        x = self.drop(F.relu(self.bn1(self.conv1(x))))
        return self.fc(F.max_pool2d(self.bn2(self.conv2(x)), 2).flatten(1))


class Depthwise(nn.Module):
    """A block of MobileNet-V3: expansion, depthwise convolution, squeeze-and-excitation, projection. Queries
    are scaled by constants, which are neither parameters nor buffers."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.expand = nn.Sequential(nn.Conv2d(8, 24, 1, bias=False), nn.BatchNorm2d(24), nn.Hardswish(inplace=True))
        self.depthwise = nn.Sequential(
            nn.Conv2d(24, 24, 3, padding=1, groups=24, bias=False), nn.BatchNorm2d(24), nn.ReLU6()
        )
        self.excite = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(24, 8, 1), nn.ReLU(), nn.Conv2d(8, 24, 1), nn.Hardsigmoid()
        )
        self.project = nn.Sequential(nn.Conv2d(24, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem((x - torch.tensor([0.1])) / torch.tensor([0.9]))
        y = self.depthwise(self.expand(x))
        x = x + self.project(y * self.excite(y))
        return self.fc(x.mean((2, 3)))


class Attention(nn.Module):
    """Attention as timm writes it."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        rows, tokens, width = x.shape
        qkv = self.qkv(x).reshape(rows, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(rows, tokens, width))


class ViTBlock(nn.Module):
    def __init__(self, width, attention):
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(width), attention, nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        y = self.norm1(x)
        if isinstance(self.attention, nn.MultiheadAttention):
            y = self.attention(y, y, y, need_weights=False)[0]
        else:
            y = self.attention(y)
        x = x + y
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """The first block attends as torchvision's transformers do, the second as timm's."""

    def __init__(self, width=32, heads=4):
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.token = nn.Parameter(0.1 * torch.randn(1, 1, width))
        self.positions = nn.Parameter(0.1 * torch.randn(1, 17, width))
        self.blocks = nn.ModuleList(
            [
                ViTBlock(width, nn.MultiheadAttention(width, heads, batch_first=True)),
                ViTBlock(width, Attention(width, heads)),
            ]
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class SwinBlock(nn.Module):
    """Attention within windows of an image [rows, side, side, width], which are shifted by `shift`."""

    def __init__(self, side, width, heads, window, shift):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.bias_table = nn.Parameter(0.1 * torch.randn((2 * window - 1) ** 2, heads))
        places = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        offsets = places[:, None] - places[None] + window - 1
        self.register_buffer("bias_index", (offsets[..., 0] * (2 * window - 1) + offsets[..., 1]).flatten())
        if shift:
            # Windows that wrap around the image attend only within each of their parts.
            bounds = torch.tensor([side - window, side - shift])
            part = torch.bucketize(torch.arange(side), bounds, right=True)
            parts = (part[:, None] * 3 + part[None]).reshape(1, side, side, 1).float()
            parts = self.partition(parts).squeeze(-1)
            mask = torch.where(parts[:, None] == parts[:, :, None], 0.0, -100.0)
            self.register_buffer("mask", mask, persistent=False)

    def partition(self, x):
        rows, height, width, channels = x.shape
        w = self.window
        x = x.view(rows, height // w, w, width // w, w, channels).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(-1, w * w, channels)

    def merge(self, x, rows, height, width):
        w = self.window
        x = x.view(rows, height // w, width // w, w, w, -1).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(rows, height, width, -1)

    def attend(self, x):
        windows, tokens, width = x.shape
        qkv = self.qkv(x).reshape(windows, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0] * (width // self.heads) ** -0.5, qkv[1], qkv[2]
        scores = q @ k.transpose(-2, -1)
        scores = scores + self.bias_table[self.bias_index].view(tokens, tokens, -1).permute(2, 0, 1)[None]
        if self.shift:
            places = self.mask.shape[0]
            scores = scores.view(windows // places, places, self.heads, tokens, tokens)
            scores = (scores + self.mask[None, :, None]).view(-1, self.heads, tokens, tokens)
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(windows, tokens, width))

    def forward(self, x):
        rows, height, width, _ = x.shape
        y = self.norm1(x)
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        y = self.merge(self.attend(self.partition(y)), rows, height, width)
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        x = x + y
        return x + self.mlp(self.norm2(x))


class Swin(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.blocks = nn.Sequential(SwinBlock(4, width, 2, 2, 0), SwinBlock(4, width, 2, 2, 1))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)

    def forward(self, x):
        x = self.blocks(self.patches(x).permute(0, 2, 3, 1))
        return self.head(self.norm(x).mean((1, 2)))


class ConvNeXt(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 2, stride=2)
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.scale = nn.Parameter(torch.full((width, 1, 1), 0.5))
        self.norm2, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, 5)

    def forward(self, x):
        x = self.stem(x)
        y = self.norm1(self.depthwise(x).permute(0, 2, 3, 1))
        x = x + self.scale * self.mlp(y).permute(0, 3, 1, 2)
        return self.head(self.norm2(x.mean((-2, -1))))


class Two(nn.Module):
    """Two inputs, of which the second does not depend on the row; two outputs, which have names. The columns
    are put in order by an index of which the first part is None."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8 + 3, 4)
        self.register_buffer("order", torch.randperm(8 + 3))

    def forward(self, x, table):
        features = torch.cat([F.relu(self.body(x)), x @ table.T], 1)[:, self.order]
        return {"logits": self.head(features), "features": features}


class Tied(nn.Module):
    """Two layers of one weight, whose biases are parts of one tensor; the weight of the head is stored
    transposed."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 5)
        self.second.weight = self.first.weight
        biases = torch.randn(32)
        self.first.bias, self.second.bias = nn.Parameter(biases[:16]), nn.Parameter(biases[16:])
        self.head.weight = nn.Parameter(torch.randn(16, 5).T)

    def forward(self, x):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


class NoGrad(nn.Module):
    """A part without gradients, and within it one with gradients. PyTorch keeps what is without gradients as two
    graphs within the graph."""

    def __init__(self):
        super().__init__()
        self.held, self.body, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 5)

    def forward(self, x):
        rows = x.shape[0]
        with torch.no_grad():
            held = torch.tanh(self.held(x))
            with torch.enable_grad():
                body = F.relu(self.body(held))
            held = held.reshape(rows, 4, 4).transpose(1, 2).reshape(rows, 16)
        return self.head(body + held)


class Writes(nn.Module):
    """Calls that write: to an input of a convolution after it, to sums of shortcuts, to a constant, and, with
    `view`, through what is a view of a convolution's images here and may be a copy elsewhere."""

    def __init__(self, view=None):
        super().__init__()
        self.view = view
        self.conv1, self.bn = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.conv3 = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1, bias=False)
        self.conv4 = nn.Conv2d(8, 8, 3, groups=4)
        self.head = nn.Linear(8, 5)
        self.register_buffer("offset", torch.linspace(-1, 1, 8))

    def forward(self, x):
        x = F.relu_(self.bn(self.conv1(x)))
        y = self.conv2(x)
        x.mul_(2)
        y += x
        y = F.relu(y)
        z = self.conv3(y)
        z += y
        z = F.relu_(z)
        twice = self.conv4(y)
        if self.view is not None:
            self.view(twice).mul_(0.5)
        twice = twice + F.hardswish(twice)
        offset = torch.zeros(8)
        offset += self.offset
        offset.mul_(3)
        return self.head(z.sum((2, 3)) + twice.mean((2, 3)) + offset)


WRITES = {
    "writes": None,
    "writes-view": lambda x: x.view(x.shape[0], 8, -1),
    "writes-reshape": lambda x: x.reshape(x.shape[0], 8, -1),
}


class Conditional(nn.Module):
    """An operator of higher order: its arguments are graphs."""

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x,))


@torch.library.custom_op("example::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


@twice.register_fake
def _(x):
    return torch.empty_like(x)


class Custom(nn.Module):
    """An operator that PyTorch does not have."""

    def forward(self, x):
        return twice(x) + 1


class DataDependent(nn.Module):
    """The number of output rows depends on values."""

    def forward(self, x):
        return x[x[:, 0] > 0]


def mlp():
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5))


class ByFour(nn.Module):
    """The MLP on four rows at a time: the number of rows is a multiple of 4."""

    def __init__(self, mlp):
        super().__init__()
        self.mlp = mlp

    def forward(self, x):
        return self.mlp(x.reshape(-1, 4, 16)).flatten(0, 1)


def distilbert():
    # Here, since a later torch does not need transformers.
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    sizes = {"vocab_size": 50, "max_position_embeddings": 16, "dim": 32, "hidden_dim": 64, "num_labels": 3}
    # Weights of the usual 0.02 would make attention uniform.
    config = DistilBertConfig(n_layers=2, n_heads=2, initializer_range=0.2, **sizes)
    return DistilBertForSequenceClassification(config)


# What makes each model that can be trained, and the shape of its queries; token ids if none.
IMAGE = (1, 8, 8)
MODELS = {
    "mlp": (mlp, (16,)),
    "cnn": (CNN, IMAGE),
    "depthwise": (Depthwise, IMAGE),
    "vit": (ViT, IMAGE),
    "swin": (Swin, IMAGE),
    "convnext": (ConvNeXt, IMAGE),
    "tied": (Tied, (16,)),
    "distilbert": (distilbert, None),
    "no-grad": (NoGrad, (16,)),
}
REFUSED = {"refused-cond": Conditional, "refused-operator": Custom, "refused-shape": DataDependent}

# Which file of values belongs to a program.
INDEX = {
    "trainable": {name: name for name in MODELS} | {f"{name}-2.15": name for name in LATER} | {"cnn-train": "cnn"},
    "inference": {
        "mlp-fixed": "mlp",
        "mlp-by-four": "mlp",
        "writes": "writes",
        "writes-view": "writes-view",
        "writes-reshape": "writes-view",
        "two": "two",
        "distilbert-mask": "distilbert-mask",
    },
    "refused": list(REFUSED),
}


def queries(shape):
    """Seeded queries; for a model of texts, token ids of which some are padding (0)."""
    generator = torch.Generator().manual_seed(1)
    if shape is None:
        return torch.randint(0, 50, (ROWS, 12), generator=generator)
    return torch.randn(ROWS, *shape, generator=generator)


def make(name):
    """The seeded model and its queries. No parameter is constant, and batch norms know some rows."""
    make_model, shape = MODELS[name]
    torch.manual_seed(0)
    model = make_model()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.min() == parameter.max():
                parameter.add_(0.1 * torch.randn_like(parameter))
        if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
            for _ in range(3):
                model.train()(torch.randn(16, *shape))
    return model.eval(), queries(shape)


def logits(outputs):
    """The tensor that a model returns, or the logits among what it returns."""
    return outputs if isinstance(outputs, torch.Tensor) else outputs["logits"]


def evaluate(model, x):
    """Outputs, loss and gradients in evaluation mode."""
    model.zero_grad()
    outputs = logits(model(x))
    loss = (outputs**2).mean()
    loss.backward()
    values = {"outputs": outputs, "loss": loss}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.grad is not None:
            values[f"gradient.{name}"] = parameter.grad
    return own(values)


def train(model, x):
    """Parameters and buffers after ten steps. The model is in training mode already."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(STEPS):
        torch.manual_seed(1000 + step)
        optimizer.zero_grad()
        (logits(model(x)) ** 2).mean().backward()
        optimizer.step()
    return own({f"after.{name}": tensor for name, tensor in model.state_dict().items()})


def own(values):
    return {name: tensor.detach().clone().contiguous() for name, tensor in values.items()}


def to_training(module):
    """What move_exported_model_to_train of torchao does, without its constants: that one sets each
    dropout to p = 0.5, and each batch norm to the default momentum and epsilon."""
    modes = {torch.ops.aten.dropout.default: 2, torch.ops.aten.batch_norm.default: 5}
    for node in module.graph.nodes:
        if node.target in modes:
            node.update_arg(modes[node.target], True)
    module.recompile()
    return module


def clean(path):
    """Saves a program again without the origin of each node: lines of Python with paths, and addresses in
    memory, which differ from run to run."""
    program = torch.export.load(path)
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for key in ("stack_trace", "from_node"):
                    node.meta.pop(key, None)
    torch.export.save(program, path)
    return torch.export.load(path)


def save_script(module, path):
    """Saves TorchScript without its debugging information, which contains paths, and with one date for all."""
    torch.jit.save(module, path)
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist() if not name.endswith(".debug_pkl")]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data)


def difference(found, expected):
    """The greatest difference as a share of the largest value."""
    found, expected = found.double(), expected.double()
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30)).item()


def compare(name, found, expected):
    """Prints the greatest differences of each kind of value; returns whether they are small enough."""
    worst = {}
    kinds = {key.split(".")[0] for key in found}
    for key, tensor in expected.items():
        kind = key.split(".")[0]
        if kind in kinds and (name, key) not in ABSENT:
            worst[kind] = max(worst.get(kind, 0.0), difference(found[key], tensor))
    print(f"{name:16}", "  ".join(f"{kind} {value:.1e}" for kind, value in worst.items()), flush=True)
    return all(value <= BOUNDS[kind] for kind, value in worst.items())


def main():
    torch.set_num_threads(1)
    folder = os.path.dirname(os.path.abspath(__file__))
    release = ".".join(torch.__version__.split(".")[:2])
    fine = True

    def path(name, kind="pt2"):
        return os.path.join(folder, f"{name}.{kind}")

    if release != RELEASE:
        for name in LATER:
            model, x = make(name)
            export(model, x, path(f"{name}-{release}"))
            program = clean(path(f"{name}-{release}"))
            fine &= compare(f"{name}-{release}", evaluate(program.module(), x), load_file(path(name, "safetensors")))
        sys.exit(not fine)

    for name in MODELS:
        model, x = make(name)
        export(model, x, path(name))
        program = clean(path(name))
        values = {"queries": x} | evaluate(model, x)
        found = evaluate(program.module(), x)
        with torch.no_grad():
            one = logits(program.module()(x[:1]))
        fine &= difference(one, values["outputs"][:1]) <= BOUNDS["outputs"]
        if name == "cnn":
            save_script(torch.jit.script(model), path("cnn", "pt"))
            save_script(torch.jit.trace(model, x), path("cnn-traced", "pt"))
            program = torch.export.export(model.train(), (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
            torch.export.save(program, path("cnn-train"))
            found |= train(to_training(torch.export.load(path(name)).module()), x)
            # From here on, the model is another one.
            values |= train(model.train(), x)
            fine &= compare("cnn-train", train(clean(path("cnn-train")).module(), x), values)
        fine &= compare(name, found, values)
        save_file(values, path(name, "safetensors"))

    model, x = make("mlp")
    torch.export.save(torch.export.export(model, (x[:4],)), path("mlp-fixed"))
    program = clean(path("mlp-fixed"))
    found = torch.cat([program.module()(rows) for rows in x.split(4)])
    fine &= compare("mlp-fixed", {"outputs": found}, {"outputs": model(x)})

    rows = {0: 4 * torch.export.Dim("quarter")}
    torch.export.save(torch.export.export(ByFour(model), (x,), dynamic_shapes=(rows,)), path("mlp-by-four"))
    program = clean(path("mlp-by-four"))
    fine &= compare("mlp-by-four", {"outputs": program.module()(x)}, {"outputs": model(x)})

    for name, view in WRITES.items():
        torch.manual_seed(0)
        model, x = Writes(view).eval(), queries(IMAGE)
        export(model, x, path(name))
        values = own({"queries": x, "outputs": model(x)})
        fine &= compare(name, {"outputs": clean(path(name)).module()(x)}, values)
        if INDEX["inference"][name] == name:
            save_file(values, path(name, "safetensors"))

    model, x = make("distilbert")
    mask = (torch.arange(12) < torch.arange(5, 5 + ROWS)[:, None]).long()
    batch = {0: torch.export.Dim.DYNAMIC}
    shapes = {"input_ids": batch, "attention_mask": batch}
    arguments = {"input_ids": x, "attention_mask": mask}
    torch.export.save(torch.export.export(model, (), arguments, dynamic_shapes=shapes), path("distilbert-mask"))
    program = clean(path("distilbert-mask"))
    values = own({"queries": x, "attention_mask": mask, "outputs": model(**arguments)["logits"]})
    fine &= compare("distilbert-mask", {"outputs": program.module()(**arguments)["logits"]}, values)
    save_file(values, path("distilbert-mask", "safetensors"))

    torch.manual_seed(0)
    model, x, table = Two(), queries((6,)), torch.randn(3, 6)
    program = torch.export.export(model.eval(), (x, table), dynamic_shapes=(batch, None))
    torch.export.save(program, path("two"))
    outputs, found = model(x, table), clean(path("two")).module()(x, table)
    save_script(torch.jit.script(model), path("two", "pt"))
    values = {"queries": x, "table": table} | own({f"outputs.{key}": value for key, value in outputs.items()})
    fine &= compare("two", {f"outputs.{key}": value for key, value in found.items()}, values)
    save_file(values, path("two", "safetensors"))

    for name, model in REFUSED.items():
        export(model(), queries((6,)), path(name))
        clean(path(name))

    with open(path("index", "json"), "w") as file:
        json.dump(INDEX, file, indent=1)
        file.write("\n")
    sys.exit(not fine)


if __name__ == "__main__":
    main()

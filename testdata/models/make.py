#!/usr/bin/env python3
"""Makes the TorchScript models of the tests (PyTorch 2.11; no randomness)."""
import os
import zipfile

import torch
from torch import nn, Tensor


class Linear(nn.Module):
    """Queries [2, 2] to 3 outputs: their sum, their first number, ten times their last."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[1.0, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 10]]))
            self.layer.bias.zero_()
        self.dropout = nn.Dropout(0.5)  # left in training mode: to be switched off when loaded

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.layer(x.flatten(1)))


class Cast(nn.Module):
    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.dtype)


class Total(nn.Module):
    """One number for all queries."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum()


class Pair(nn.Module):
    """Two tensors."""

    def forward(self, x: Tensor):
        return x, x


class Prints(nn.Module):
    """Twice the queries, with a line on standard output each time."""

    def forward(self, x: Tensor) -> Tensor:
        print("seen", x.shape)
        return x * 2


class Named(nn.Module):
    """Two tensors by name."""

    def forward(self, x: Tensor):
        return {"double": x * 2, "triple": x * 3}


class Fails(nn.Module):
    """An exception of its own, with a long message of several lines."""

    def forward(self, x: Tensor) -> Tensor:
        text = "the first line of the reason\nits second line"
        for _ in range(20):
            text += ", which is long"
        raise RuntimeError(text + ", and its end")


class Scale(nn.Module):
    """Twice the queries, with a weight of one type: other types are refused."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False, dtype=dtype)
        with torch.no_grad():
            self.layer.weight.copy_(2 * torch.eye(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Lookup(nn.Module):
    """Token ids [2] to their numbers: row i of the table is [i, 10 i]."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 2)
        with torch.no_grad():
            self.table.weight.copy_(torch.arange(5)[:, None] * torch.tensor([1.0, 10.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x)


class Ragged(nn.Module):
    """As many outputs a row as there are rows."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :1].repeat(1, x.shape[0])


class Encoder(nn.Module):
    """Groups [k, ...] to two parity queries [2, ...], as 'sum' makes them: weights 1, and i + 1."""

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.arange(1, x.shape[1] + 1, dtype=x.dtype, device=x.device)
        weighted = (x.transpose(1, -1) * weights).transpose(1, -1)
        return torch.stack([x.sum(1), weighted.sum(1)], 1)


class Decoder(nn.Module):
    """Predictions and the parity output of 'sum' [k + 1, ...] to the predictions [k, ...]: what is missing
    (zeros) is the parity output less all others."""

    def forward(self, x: Tensor) -> Tensor:
        predictions = x[:, :-1]
        return x[:, -1:] - predictions.sum(1, keepdim=True) + predictions


models = {"encoder": Encoder(), "decoder": Decoder()}
models.update({"linear": Linear(), "total": Total(), "pair": Pair(), "ragged": Ragged()})
models.update({"prints": Prints(), "named": Named(), "fails": Fails(), "lookup": Lookup()})
types = {"f2": torch.float16, "f4": torch.float32, "f8": torch.float64, "i1": torch.int8, "i2": torch.int16,
         "i4": torch.int32, "i8": torch.int64, "u1": torch.uint8, "b1": torch.bool, "bf16": torch.bfloat16,
         "c8": torch.complex64}
models.update({f"to-{name}": Cast(dtype) for name, dtype in types.items()})
halves = {"f2": torch.float16, "f8": torch.float64, "bf16": torch.bfloat16}
models.update({f"scale-{name}": Scale(dtype) for name, dtype in halves.items()})
os.chdir(os.path.dirname(os.path.abspath(__file__)))
for name, model in models.items():
    torch.jit.save(torch.jit.script(model), f"{name}.pt")
    # Without the debugging information, which holds paths, and with one date for all.
    with zipfile.ZipFile(f"{name}.pt") as archive:
        parts = [(part, archive.read(part)) for part in archive.namelist() if not part.endswith(".debug_pkl")]
    with zipfile.ZipFile(f"{name}.pt", "w") as archive:
        for part, content in parts:
            archive.writestr(zipfile.ZipInfo(part), content)

# The same coders as exported programs, for any number of groups and queries.
axis = torch.export.Dim.DYNAMIC
for name, example in [("encoder", torch.zeros(2, 3, 2, 3)), ("decoder", torch.zeros(2, 3, 2))]:
    program = torch.export.export(models[name].eval(), (example,), dynamic_shapes=({0: axis, 1: axis},))
    for node in program.graph_module.graph.nodes:
        node.meta.pop("stack_trace", None)
    torch.export.save(program, f"{name}.pt2")

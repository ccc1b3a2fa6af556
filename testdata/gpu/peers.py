"""PyTorch on the same work: the networks, and loops that are timed as the tools time theirs."""

import statistics
import time

import numpy as np
import torch
from torch import nn


def allow_tf32(allow):
    torch.backends.cuda.matmul.allow_tf32 = allow
    torch.backends.cudnn.allow_tf32 = allow


class Block(nn.Module):
    """A block of ResNet-18, with torchvision's names."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet18(nn.Module):
    """ResNet-18 as parm-train has it: for images of 64x64 and more the first layers of ImageNet, and three
    stages for images below 32x32."""

    def __init__(self, shape, classes):
        super().__init__()
        channels, side = shape[0], min(shape[1:])
        large = side >= 64
        self.conv1 = nn.Conv2d(channels, 64, 7 if large else 3, 2 if large else 1, 3 if large else 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        self.stages = 4 if side >= 32 else 3
        inputs = 64
        for stage in range(self.stages):
            outputs = 64 << stage
            blocks = nn.Sequential(Block(inputs, outputs, 1 if stage == 0 else 2), Block(outputs, outputs, 1))
            setattr(self, f"layer{stage + 1}", blocks)
            inputs = outputs
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


class VisionTransformer(nn.Module):
    """ViT-B/16."""

    def __init__(self, side, width=768, depth=12, heads=12, patch=16, classes=1000):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, (side // patch) ** 2 + 1, width) * 0.02)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        rows, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(rows, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        x = x + self.out(attended.transpose(1, 2).reshape(rows, tokens, width))
        return x + self.mlp(self.norm2(x))


def trace(model, shape, path):
    """Writes a model as TorchScript."""
    with torch.inference_mode(False), torch.no_grad():
        torch.jit.trace(model.eval(), torch.zeros(2, *shape)).save(path)


def export(model, shape, path):
    """Writes a model as an exported program of any number of rows."""
    rows = {0: torch.export.Dim.DYNAMIC}
    with torch.inference_mode(False), torch.no_grad():
        torch.export.save(torch.export.export(model.eval(), (torch.zeros(2, *shape),), dynamic_shapes=(rows,)), path)


def load(model, tensors):
    """Gives a model weights by name; what parm's files do not have (counts of batches) stays."""
    state = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    odd = [name for name in missing if not name.endswith("num_batches_tracked")] + unexpected
    if odd:
        raise ValueError(f"weights that do not fit: {odd[:4]}")
    return model.eval()


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(device, work, least=5, most_seconds=2.0):
    """The median time of some work, after two runs that do not count."""
    for _ in range(2):
        work()
    synchronize(device)
    times, begin = [], time.perf_counter()
    while len(times) < least or (time.perf_counter() - begin < most_seconds / 2 and len(times) < 200):
        start = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - start)
        if time.perf_counter() - begin > most_seconds and len(times) >= 3:
            break
    return statistics.median(times)


def answer_seconds(model, queries, device, mixed=False):
    """Seconds to answer queries that are on the device, and to bring them there."""
    on_device = queries.to(device)
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=mixed):
        computed = seconds(device, lambda: model(on_device))
        copied = seconds(device, lambda: queries.to(device), most_seconds=0.5) if device == "cuda" else None
    return computed, copied


def graph_seconds(model, queries):
    """Seconds to answer queries that are on a GPU by a CUDA graph, which launches all kernels at once."""
    on_device, stream, graph = queries.to("cuda"), torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.inference_mode():
        with torch.cuda.stream(stream):
            for _ in range(3):
                model(on_device)
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            model(on_device)
        return seconds("cuda", graph.replay)


def answers(model, queries, device):
    with torch.inference_mode():
        return model(torch.from_numpy(queries).to(device)).float().cpu().numpy()


def copy_bandwidth(device, size):
    """Bytes a second that a copy on the device reads and writes."""
    source = torch.rand(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(device, lambda: target.copy_(source), least=20)


def epochs(model, queries, labels, device, count, batch, mixed, rate=1e-3):
    """Trains by Adam and cross-entropy; returns the seconds of each epoch and the most memory taken."""
    model = model.to(device).train()
    queries, labels = torch.from_numpy(queries).to(device), torch.from_numpy(labels.astype("i8")).to(device)
    adam = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=1e-5, fused=True)
    loss_of = nn.CrossEntropyLoss()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    took = []
    for _ in range(count):
        begin = time.perf_counter()
        total = torch.zeros((), device=device, dtype=torch.float64)
        for index in torch.randperm(len(queries)).to(device).split(batch):
            with torch.autocast(device, torch.bfloat16, enabled=mixed):
                loss = loss_of(model(queries[index]), labels[index])
            adam.zero_grad()
            loss.backward()
            adam.step()
            total += loss.detach() * len(index)
        total.item()
        took.append(time.perf_counter() - begin)
    return took, torch.cuda.max_memory_allocated() if device == "cuda" else None


def fill_memory(leave):
    """Takes all memory of the GPU but so many bytes; keep what it returns."""
    free, _ = torch.cuda.mem_get_info()
    return torch.empty(max(free - leave, 0), dtype=torch.uint8, device="cuda")

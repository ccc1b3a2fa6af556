"""The steps of the check, in their order."""

import json
import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import tools as files
from tools import Failed, TimeUp, difference

try:
    import peers
except ImportError:
    peers = None

NO_PEER = "no PyTorch to compare with"


class Check:
    """What the steps share."""

    def __init__(self, tools, report, data, data_name):
        self.tools, self.report, self.data, self.data_name = tools, report, data, data_name
        self.device, self.gpu = tools.device, tools.device == "cuda"
        # Of the last training that was measured.
        self.epoch_seconds = None
        self.random = np.random.default_rng(0)
        # Small where there is no GPU: the script is tried there, not the machine.
        self.image = (3, 224, 224) if self.gpu else (3, 32, 32)

    def path(self, name):
        return self.tools.path(name)

    def save(self, name, array):
        np.save(self.path(name), array)
        return self.path(name)

    def images(self, count, shape=None):
        return self.random.random((count, *(shape or self.image)), dtype="f4")

    def model(self, kind, shape, classes, rows, name=None):
        """Trains a network a little on random images, so that no number in it is a special one."""
        path = self.path(f"{name or kind}.safetensors")
        data = self.save(f"{kind}-noise.npy", self.images(rows, shape))
        labels = self.save(f"{kind}-noise-labels.npy", (np.arange(rows) * (classes - 1) // (rows - 1)).astype("i4"))
        self.tools.on_device(
            "train", "base", "--data", data, "--labels", labels, "--model", kind, "--epochs", 1, "--batch", rows,
            "--validation", 0, "--lr", "0.0001", "--force", "-o", path,
        )
        return path

    def one_line(self, what, *arguments, holds):
        """A call that must be refused, with one line that says why."""
        status, _, err = self.tools.run("infer", *arguments)
        lines = err.strip().splitlines()
        right = status == 1 and len(lines) == 1 and all(word in lines[0] for word in holds)
        self.report.check(what, right, detail=f"exit {status}: {' | '.join(lines)[:300]}")


def score(tools, *arguments):
    """Top-1 scores by name."""
    scores = json.loads(tools.ok("score", *arguments, "--json"))["scores"]
    return {score["score"]: score["value"] for score in scores if score["top"] in (1, None)}


def start(check):
    """The programs start; a device that is none, and one without memory, are refused in one line."""
    tools, report = check.tools, check.report
    for name in ("infer", "train", "serve", "encode", "decode", "score", "load"):
        tools.ok(name, "--version")
    report.check("the programs start", True)
    weights = check.random.standard_normal((10, 64), dtype="f4")
    model = check.path("linear.safetensors")
    files.write_linear(model, weights, [1, 8, 8])
    queries = check.save("few.npy", check.images(16, (1, 8, 8)))
    timings = check.path("start.json")
    begin = time.monotonic()
    tools.on_device("infer", "-m", model, queries, "-o", check.path("out.npy"), "--timings", timings)
    whole = time.monotonic() - begin
    with open(timings) as file:
        timed = json.load(file)
    expected = "cuda:0" if check.gpu else "cpu"
    report.check(f"--device {check.device} computes on {expected}", timed["device"] == expected)
    report.figure("a whole parm-infer of 16 rows", whole, "s")
    report.figure("of that, finding the device", timed["seconds"]["start"]["seconds"], "s")
    check.one_line("a device number that is none", "-m", model, queries, "-o", "/dev/null", "--device", "cuda:99",
                   holds=["parm-infer:", "GPU 99" if check.gpu else "libtorch"])
    if not check.gpu:
        return
    if peers is None:
        report.skip("a GPU without memory left", NO_PEER)
        return
    many = files.repeated_rows(check.path("many.npy"), check.images(64, (1, 512, 1024)), 512)
    big = check.path("big.safetensors")
    files.write_linear(big, np.ones((2, 512 * 1024), "f4"), [1, 512, 1024])
    for what, leave in (("a GPU without memory left", 100 << 20), ("a GPU with too little memory left", 1 << 30)):
        held = peers.fill_memory(leave)
        check.one_line(what, "-m", big, many, "-o", "/dev/null", "--device", "cuda", "--batch", 512, holds=["memory"])
        del held
        peers.torch.cuda.empty_cache()


def outputs(check):
    """Outputs of all architectures, native and as TorchScript, here and on the CPU, without TF32."""
    shapes = {
        "mlp": (1, 28, 28), "lenet5": (1, 28, 28), "vgg11": (1, 32, 32), "resnet18": check.image,
        "resnet152": (3, 64, 64) if check.gpu else (3, 8, 8),
    }

    def compare(kind):
        shape, rows = shapes[kind], 16 if check.gpu else 4
        model = check.model(kind, shape, 10, rows)
        queries = check.save(f"{kind}-queries.npy", check.images(rows, shape))
        script = check.path(f"{kind}.pt")
        check.tools.ok("train", "export", model, "-o", script)
        expected = check.tools.infer(model, queries, device="cpu")
        natively = [(kind, model)] if check.gpu else []
        return [(what, difference(check.tools.infer(path, queries), expected))
                for what, path in [*natively, (f"{kind}, TorchScript", script)]]

    # What is compared here is not timed.
    with ThreadPoolExecutor(5 if check.gpu else 1) as pool:
        for found in pool.map(compare, shapes):
            for what, worst in found:
                right = worst <= 1e-3
                check.report.check(f"outputs of {what}", right, value=worst, unit="of the largest", detail="<= 1e-3")
    programs(check)


def programs(check):
    """Exported programs, whose graphs name the CPU: their outputs here and there, as they are and in bf16, and a parity
    model of one."""
    testdata = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    queries = check.save("programs.npy", check.images(16, (1, 8, 8)))
    for name in ("cnn", "depthwise", "vit", "swin", "convnext"):
        path = os.path.join(testdata, "exported", f"{name}.pt2")
        expected = check.tools.infer(path, queries, device="cpu")
        for what, options, most in (("", (), 1e-3), (", --optimize off", ("--optimize", "off"), 1e-3),
                                    (", bf16", ("--precision", "bf16"), 5e-2)):
            worst = difference(check.tools.infer(path, queries, *options), expected)
            check.report.check(f"outputs of {name}.pt2{what}", worst <= most, value=worst, unit="of the largest",
                               detail=f"<= {most:g}")
    digits = os.path.join(testdata, "digits")
    for precision in ("f32", "mixed"):
        code = check.path(f"program-{precision}")
        check.tools.on_device(
            "train", "parity", "--base", os.path.join(digits, "model.pt2"), "--code", "sum", "-k", 2, "--epochs", 5,
            "--data", os.path.join(digits, "train.npy"), "--precision", precision, "-o", code,
        )
        lines = epochs_of(os.path.join(code, "run", "parity-0"))
        falls = lines[-1]["train_loss"] < lines[0]["train_loss"]
        check.report.check(f"a parity model of a program, {precision}: the loss falls", falls)


def pipeline(check):
    """The pipeline of the README step by step, every tool on the device, and in one pass; and encoding on the
    device beside a copy there."""
    tools, report, data = check.tools, check.report, check.data
    base, code = check.path("base.safetensors"), check.path("code")
    epochs = 3 if check.gpu else 2
    train = ["--data", data["train"], "--labels", data["train-labels"], "--epochs", epochs]
    tools.on_device("train", "base", *train, "-o", base)
    tools.on_device("train", "parity", *train, "--base", base, "--code", "sum", "-k", 2, "-o", code)
    begin = time.monotonic()
    predictions, coded, parity = (check.path(f"{name}.npy") for name in ("predictions", "coded", "parity"))
    tools.on_device("infer", "-m", base, data["test"], "-o", predictions)
    tools.ok("encode", "--code", code, data["test"], "-o", coded)
    tools.on_device("infer", "-m", os.path.join(code, "parity-0.safetensors"), coded, "-o", parity)
    steps = time.monotonic() - begin
    begin = time.monotonic()
    passed, passed_parity = check.path("pass.npy"), check.path("pass-parity.npy")
    tools.on_device("infer", "-m", base, "--code", code, "--parity-out", passed_parity, data["test"], "-o", passed)
    one_pass = time.monotonic() - begin
    for what, found, expected in (("predictions", passed, predictions), ("parity outputs", passed_parity, parity)):
        close = np.allclose(np.load(found), np.load(expected), rtol=1e-4, atol=1e-4)
        report.check(f"one pass and step by step: {what}", close, detail="rtol 1e-4")
    report.figure("step by step", steps, "s")
    report.figure("one pass", one_pass, "s")
    have, rebuilt = check.path("have.npy"), check.path("rebuilt.npy")
    tools.ok("decode", "--code", code, "--parity", parity, "--erase", "each", "--erased-out", have, predictions,
             "-o", rebuilt)
    scores = score(tools, "--labels", data["test-labels"], "--available", have, "--copies", 2, "--reference",
                   predictions, "-k", 2, rebuilt)
    report.figure(f"agreement of {check.data_name} after {epochs} epochs, k = 2", scores["agreement"], "")

    learned = check.path("learned")
    few = [*train[:4], "--epochs", 1]
    tools.on_device("train", "coders", *few, "--base", base, "-k", 2, "-o", learned)
    for device in {check.device, "cpu"}:
        tools.on_device("encode", "--code", learned, data["test"], "-o", check.path(f"learned-{device}.npy"), device=device)
        answers = check.path(f"answers-{device}.npy")
        tools.on_device("infer", "-m", base, check.path(f"learned-{device}.npy"), "-o", answers, device=device)
        tools.on_device("decode", "--code", learned, "--parity", answers, "--erase", "each", predictions,
                        "-o", check.path(f"decoded-{device}.npy"), device=device)
    if check.gpu:
        worst = difference(np.load(check.path("decoded-cuda.npy")), np.load(check.path("decoded-cpu.npy")))
        report.check("learned coders on the device and on the CPU", worst <= 1e-3, value=worst, unit="of the largest")
    bandwidth(check)


def bandwidth(check):
    """Encoding on the device, in bytes that must be read and written, beside a copy."""
    tools, report = check.tools, check.report
    # A launch and its end cost as much as the encoding of a few hundred images.
    rows, batch = (15360, 3072) if check.gpu else (512, 128)
    model = check.path("wide.safetensors")
    elements = int(np.prod(check.image))
    sha256 = files.write_linear(model, np.full((2, elements), 1e-3, "f4"), check.image)
    queries = files.repeated_rows(check.path("wide.npy"), check.images(min(rows, 256)), rows)
    size = batch * elements * 4
    if peers:
        copied = peers.copy_bandwidth(check.device, size)
    else:
        source, times = np.ones(size // 4, "f4"), []
        target = np.empty_like(source)
        for _ in range(9):
            begin = time.perf_counter()
            np.copyto(target, source)
            times.append(time.perf_counter() - begin)
        copied = 2 * size / sorted(times)[4]
    report.figure("a copy on the device, bytes read and written", copied / 1e9, "GB/s")
    for k in (2, 3, 4):
        tools.need(3)
        code = files.write_sum_code(check.path(f"wide-{k}"), k, model, sha256, check.image, 2)
        timed = tools.timed_infer(model, queries, "--code", code, "--parity-out", "/dev/null", "--tail", "drop",
                                  "--batch", batch // k * k)
        seconds = timed["seconds"]["encode"]["median"]
        encoded = (batch // k * k) * elements * 4 * (1 + 1 / k) / seconds
        report.figure(f"encoding on the device, k = {k}, of a copy", encoded / copied, "", 0.8,
                      detail=f"{encoded / 1e9:.0f} GB/s")
    os.remove(queries)


def rates(check):
    """Rows a second of ResNet-18 and ViT-B/16, also exported, beside PyTorch, in turns: seconds of a batch, medians."""
    tools, report = check.tools, check.report
    batches = {1: 200, 16: 1024, 256: 2560} if check.gpu else {1: 20, 4: 40}
    classes = 1000 if check.gpu else 10
    resnet = check.model("resnet18", check.image, classes, 16, "rates")
    models = [("ResNet-18", resnet, None)]
    if peers is None:
        report.skip("PyTorch beside ResNet-18, and ViT-B/16", NO_PEER)
    else:
        peer = peers.load(peers.ResNet18(check.image, classes), files.read_weights(resnet)).to(check.device)
        models = [("ResNet-18", resnet, peer)]
        few = check.images(16)
        peers.allow_tf32(False)
        found = tools.infer(resnet, check.save("few.npy", few))
        worst = difference(found, peers.answers(peer, few, check.device))
        report.check("ResNet-18 as PyTorch has it", worst <= 1e-3, value=worst, unit="of the largest")
        if check.gpu:
            worst = difference(tools.infer(resnet, check.path("few.npy"), "--tf32"), found)
            report.check("ResNet-18 in TF32", worst <= 1e-2, value=worst, unit="of the largest", detail="<= 1e-2")
        peers.torch.manual_seed(0)
        vit = peers.VisionTransformer(check.image[1], **({} if check.gpu else {"width": 96, "depth": 2, "heads": 3}))
        script, program, resnet_program = (check.path(name) for name in ("vit.pt", "vit.pt2", "resnet18.pt2"))
        peers.trace(vit, check.image, script)
        peers.export(vit, check.image, program)
        peers.export(peer.cpu(), check.image, resnet_program)
        vit, peer = vit.to(check.device).eval(), peer.to(check.device)
        models += [("ViT-B/16", script, vit), ("ViT-B/16, exported", program, vit),
                   ("ResNet-18, exported", resnet_program, peer)]
    largest = max(batches.values())
    block = check.images(min(largest, 256))
    paths = {rows: files.repeated_rows(check.path(f"rates-{rows}.npy"), block, rows) for rows in batches.values()}
    precisions = {"f32": (), "TF32": ("--tf32",), "bf16": ("--precision", "bf16")}
    for precision, options in precisions.items() if check.gpu else [("f32", ())]:
        tf32, mixed = precision == "TF32", precision == "bf16"
        for name, path, peer in models:
            for batch, rows in batches.items():
                tools.need(6 if check.gpu else 1)
                theirs = []
                if peer is not None:
                    peers.allow_tf32(tf32)
                    queries = peers.torch.from_numpy(block[:batch])
                    theirs.append(peers.answer_seconds(peer, queries, check.device, mixed))
                timed = tools.timed_infer(path, paths[rows], "--batch", batch, *options)
                own = timed["seconds"]["compute"]["median"]
                what = f"{name}, {precision}, batch {batch}"
                detail = ""
                if peer is not None:
                    theirs.append(peers.answer_seconds(peer, queries, check.device, mixed))
                    computed = sorted(seconds for seconds, _ in theirs)[0]
                    detail = f"PyTorch {batch / computed:.0f} rows/s"
                    report.figure(f"{what}: of PyTorch's rate", computed / own, "", 1.0, detail=detail)
                    if check.gpu and batch == 1 and precision == "f32":
                        graph = 1 / peers.graph_seconds(peer, queries)
                        report.figure(f"{what}: PyTorch with a CUDA graph", graph, "rows/s")
                    if check.gpu:
                        read, upload = (1e3 * timed["seconds"][phase]["median"] for phase in ("read", "upload"))
                        copied = 1e3 * min(copied for _, copied in theirs)
                        detail = f"a batch read in {read:.2f} ms, uploaded in {upload:.2f} ms, PyTorch {copied:.2f} ms"
                report.figure(what, batch / own, "rows/s", detail=detail)
    for path in paths.values():
        os.remove(path)


def epochs_of(folder):
    """The epochs that a training has done, as its metrics have them."""
    try:
        with open(os.path.join(folder, "metrics.jsonl")) as file:
            return [json.loads(line) for line in file]
    except FileNotFoundError:
        return []


def training(check):
    """An epoch of ResNet-18 on the data set, f32 and mixed, beside the same loop in PyTorch."""
    tools, report, data = check.tools, check.report, check.data
    images, labels = np.load(data["train"]), np.load(data["train-labels"])
    if not check.gpu:
        images, labels = images[:256], labels[:256]
    batch = 256 if check.gpu else 64
    few, few_labels = check.save("epoch.npy", images), check.save("epoch-labels.npy", labels)
    for precision in ("f32", "mixed"):
        tools.need(10 if check.gpu else 2)
        model, timings = check.path(f"epoch-{precision}.safetensors"), check.path("epoch.json")
        tools.on_device(
            "train", "base", "--data", few, "--labels", few_labels, "--model", "resnet18", "--epochs", 3,
            "--batch", batch, "--validation", 0, "--precision", precision, "-o", model, "--timings", timings,
        )
        lines = epochs_of(check.path(f"epoch-{precision}.run"))
        own = min(line["seconds"] for line in lines[1:])
        check.report.check(f"ResNet-18, {precision}: the loss falls", lines[-1]["train_loss"] < lines[0]["train_loss"])
        with open(timings) as file:
            memory = json.load(file)["device_memory"]
        check.epoch_seconds = own
        report.figure(f"an epoch of ResNet-18, {len(images)} rows, {precision}", own, "s")
        if memory:
            report.figure(f"memory of that training, {precision}", memory["allocated"] / 1e9, "GB")
        if peers is None:
            report.skip(f"PyTorch beside an epoch, {precision}", NO_PEER)
            continue
        tools.need(10 if check.gpu else 2)
        # The peer computes as PyTorch does where nobody asks for TF32.
        peers.allow_tf32(False)
        peer = peers.ResNet18(images.shape[1:], 10)
        took, peak = peers.epochs(peer, images, labels, check.device, 3, batch, precision == "mixed")
        report.figure(f"an epoch, {precision}: of PyTorch's speed", min(took[1:]) / own, "", 1.0,
                      detail=f"PyTorch {min(took[1:]):.2f} s")
        if memory:
            report.figure(f"memory, {precision}: PyTorch's over ours", peak / memory["allocated"], "",
                          detail=f"PyTorch {peak / 1e9:.2f} GB")
    if peers:
        exported(check, few, batch)


def exported(check, data, batch):
    """An epoch of a parity model of ResNet-18, as a program that PyTorch exported and as a native network."""
    native = check.path("epoch-f32.safetensors")
    shape = np.load(data, mmap_mode="r").shape[1:]
    program = check.path("epoch.pt2")
    peers.export(peers.load(peers.ResNet18(shape, 10), files.read_weights(native)), shape, program)
    seconds = []
    for base in (native, program):
        check.tools.need(10 if check.gpu else 2)
        code = check.path(f"epoch-{os.path.splitext(base)[1][1:]}")
        check.tools.on_device(
            "train", "parity", "--base", base, "--code", "sum", "-k", 2, "--data", data, "--epochs", 2,
            "--batch", batch // 2, "--validation", 0, "-o", code,
        )
        lines = epochs_of(os.path.join(code, "run", "parity-0"))
        falls = lines[-1]["train_loss"] < lines[0]["train_loss"]
        check.report.check(f"a parity model of {os.path.basename(base)}: the loss falls", falls)
        seconds.append(min(line["seconds"] for line in lines))
    check.report.figure("an epoch of an exported network: of the native one's speed", seconds[0] / seconds[1], "",
                        detail=f"{seconds[1]:.2f} s")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def serving(check):
    """parm-serve with four embedded instances of which one is stuck: every answer must be right."""
    tools, report = check.tools, check.report
    shape, classes = (1, 28, 28), 10
    weights = check.random.standard_normal((classes, 784), dtype="f4") / 28
    model = check.path("served.safetensors")
    sha256 = files.write_linear(model, weights, shape)
    code = files.write_sum_code(check.path("served-code"), 2, model, sha256, shape, classes)
    queries = check.images(1000, shape)
    predictions = queries.reshape(1000, -1) @ weights.T
    # Reconstructions are exact but for rounding: rows whose two best classes are close are left out.
    best = np.sort(predictions, 1)
    clear = best[:, -1] - best[:, -2] > 1e-2
    data, labels = check.save("served.npy", queries[clear]), check.save("labels.npy", predictions[clear].argmax(1))
    port = free_port()
    config = {
        "grpc": None,
        "models": [{
            "name": "m", "files": {"deployed": model}, "placement": "pooled",
            "inputs": [{"name": "input", "datatype": "FP32", "shape": list(shape)}],
            "outputs": [{"name": "output", "datatype": "FP32", "shape": [classes]}],
            "redundancy": {"policy": "coded", "code": {"name": "directory", "directory": code}},
            "instances": [
                {"embedded": {"count": 4, "device": check.device}},
                {"synthetic": {"count": 1, "behavior": {"service": {"distribution": "constant", "ms": 1}, "hangs": 1.0}}},
            ],
        }],
    }
    path = check.path("serve.json")
    with open(path, "w") as file:
        json.dump(config, file)
    log = check.path("serve.log")
    with open(log, "w") as err:
        server = subprocess.Popen([tools.program("serve"), path, "--http", f"127.0.0.1:{port}", "--threads", "1"], stderr=err)
    try:
        ready = ["http://127.0.0.1:%d" % port, "--model", "m", "--rate", 100, "--queries", 1, "--warm-up", 0,
                 "--data", data, "-q"]
        while tools.run("load", *ready)[0] != 0:
            if server.poll() is not None or tools.left() < 1:
                with open(log) as file:
                    raise Failed(f"parm-serve does not get ready: {file.read().strip()[-300:]}")
            time.sleep(0.1)
        seconds = 20 if check.gpu else 3
        tools.need(seconds + 2)
        load = ["http://127.0.0.1:%d" % port, "--model", "m", "--rate", 500 if check.gpu else 200, "--seconds", seconds,
                "--data", data, "--labels", labels, "--encoding", "binary", "--json", "-q"]
        found = json.loads(tools.ok("load", *load))["runs"][0]
        answers = found["answered"]
        report.check("parm-serve with a stuck instance: none failed", found["failed"] == 0,
                     detail=f"{found['failed']} of {found['failed'] + answers} failed")
        report.check("every answer is right", found["accuracy"] == 1.0,
                     detail=f"{answers} answers, {found['reconstructed']:.2%} of them rebuilt")
        for name in ("median", "p99", "p99.9"):
            report.figure(f"{name} of {found['rate']:.0f} queries/s", found["latency_ms"][name], "ms")
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()


PAPER = {2: 0.9921, 3: 0.9828, 4: 0.9639}


def accuracy(check):
    """ResNet-18 to the paper's rows (SOSP 2019, figure 5), with one resume, in all the time that is left."""
    tools, report, data = check.tools, check.report, dict(check.data)
    if not check.gpu:
        for name in data:
            data[name] = check.save(f"few-{name}.npy", np.load(data[name])[:240])
    seconds = tools.left() - (15 if check.gpu else 0)
    epoch = check.epoch_seconds
    if epoch is None:
        raise TimeUp("no epoch was measured before")
    shares = {"base": 0.2, 2: 0.25, 3: 0.2, 4: 0.2} if check.gpu else {"base": 0.2, 2: 0.2}
    rows = ["--data", data["train"], "--labels", data["train-labels"], "--validation", 5000 if check.gpu else 40,
            "--precision", "mixed" if check.gpu else "f32", "--checkpoint-cycle", 5]
    base = check.path("paper.safetensors")

    def epochs(share, of_rows):
        """Epochs for a share of the time, each of so many passes of the epoch that was measured; 0.3 s of each
        go to files."""
        return min(max(int(share * seconds / (epoch * of_rows + 0.3)), 2), 200) if check.gpu else 6

    def curve(what, folder, name):
        lines, at = [], 0.0
        for line in epochs_of(folder):
            at += line["seconds"]
            lines.append([line["epoch"], round(at, 2), line[name]])
        report.add(f"{what}: epoch, seconds, {name} of validation rows", "measured", curve=lines,
                   detail=f"{len(lines)} epochs, {at:.0f} s, best {max(line[2] for line in lines):.4f}")

    moved = ["--augment", "shift=2"] if check.gpu else []
    tools.on_device("train", "base", *rows, "--model", "resnet18", "--batch", 256, *moved,
                    "--epochs", epochs(shares["base"], 1.1), "-o", base)
    curve("deployed model", check.path("paper.run"), "accuracy")
    predictions = check.path("paper-predictions.npy")
    tools.on_device("infer", "-m", base, data["test"], "-o", predictions)
    right = (np.load(predictions).argmax(1) == np.load(data["test-labels"])).mean()
    report.figure("A_a of the test rows", right, "")
    for k in (k for k in shares if k != "base"):
        tools.need(5 if check.gpu else 1)
        code = check.path(f"paper-{k}")
        # A validation row is answered once in each of its groups; a training row shares its pass with k - 1.
        count = epochs(shares[k], 1 / k + 0.15)
        train = ["train", "parity", *rows, "--base", base, "--code", "sum", "-k", k, "--batch", 128, "--lr", 0.001,
                 "--epochs", count, "-o", code, "--device", check.device]
        if k == 2:
            run = os.path.join(code, "run", "parity-0")
            status, _, err = tools.run(*train, interrupt_when=lambda: len(epochs_of(run)) >= max(count // 2, 1))
            if status == 130:
                done = epochs_of(run)
                tools.ok(*train, "--resume")
                lines = epochs_of(run)
                whole = [line["epoch"] for line in lines] == list(range(1, count + 1)) and lines[: len(done)] == done
                report.check("a training goes on after SIGINT", whole, detail=f"stopped after {len(done)} epochs")
            elif status == 0:
                report.skip("a training goes on after SIGINT", "it had ended before")
            else:
                raise Failed(f"parm-train parity: exit {status}: {err.strip()[-300:]}")
        else:
            tools.ok(*train)
        curve(f"parity model, k = {k}", os.path.join(code, "run", "parity-0"), "A_d")
        parity, have, rebuilt = check.path("p.npy"), check.path("h.npy"), check.path("r.npy")
        tools.on_device("infer", "-m", base, "--code", code, "--parity-out", parity, "--tail", "drop", data["test"],
                        "-o", predictions)
        answered = check.save("answered.npy", np.load(predictions)[: len(np.load(parity)) * k])
        labels = check.save("answered-labels.npy", np.load(data["test-labels"])[: len(np.load(parity)) * k])
        tools.ok("decode", "--code", code, "--parity", parity, "--erase", "each", "--erased-out", have, answered, "-o", rebuilt)
        scores = score(tools, "--labels", labels, "--available", have, "--copies", k, "--reference", answered,
                       "-k", k, rebuilt)
        report.figure(f"A_d of the test rows, k = {k}", scores["A_d"], "", PAPER[k] if check.gpu else None,
                      detail=f"agreement {scores['agreement']:.4f}")


# Name, what it is, the most seconds on a GPU and on a CPU, and the least that it is begun with.
STEPS = [
    ("a", start, 60, 15, 5),
    ("b", outputs, 100, 60, 10),
    ("c", pipeline, 75, 40, 10),
    ("d", rates, 150, 60, 15),
    ("e", training, 90, 60, 10),
    ("f", serving, 45, 30, 5),
    ("g", accuracy, 600, 40, 10),
]

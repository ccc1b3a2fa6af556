#!/usr/bin/env python3
"""A drill for each policy: four backends (parm-serve with a synthetic instance each) behind a parm-serve. Under load one
backend is killed and started again, another one is stopped and continued; a table of what that costs: medians over trials
with different arrivals, with the least and the greatest.

Usage: drill.py REPORT.json FOLDER [POLICY…]; the folder takes configurations, drills and rows. With QUICK in the environment,
one shorter trial.
"""
import json
import math
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
import urllib.request

QUICK = bool(os.environ.get("QUICK"))
EVERY = 2 if QUICK else 5  # Seconds between two faults.
TRIALS = 1 if QUICK else 5
RATE, SERVICE_MS, GRACE_MS = 100, 10, 20
report, folder, *chosen = sys.argv[1:]

X = [{"name": "x", "datatype": "FP32", "shape": [8]}]
Y = [{"name": "y", "datatype": "FP32", "shape": [3]}]
CODE = {"code": {"name": "sum", "k": 2}}
LATE = {"after": {"ms": GRACE_MS}, "budget": 0.05}
POLICIES = {
    "none": {"policy": "none"},
    "replicate": {"policy": "replicate", "copies": 2},
    "hedge": {"policy": "hedge", **LATE},
    "coded": {"policy": "coded", **CODE},
    "auto": {"policy": "auto", "coded": CODE, "hedge": LATE},
}


def ports():
    """Two free ports."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def write(name, value):
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        json.dump(value, file)
    return path


def npy(name, shape, dtype, data):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data)
    return path


def command(config, at):
    return ["parm-serve", config, "--http", f"127.0.0.1:{at[0]}", "--grpc", f"127.0.0.1:{at[1]}"]


def serve(config, at, log):
    process = subprocess.Popen(command(config, at), stdout=log, stderr=log)
    for _ in range(200):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{at[0]}/v2/health/ready", timeout=1)
            return process
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{config}: the server did not become ready in 10 s")


def drill(policy, seed):
    """The report of parm-load."""
    log = open(os.path.join(folder, f"{policy}.log"), "a")
    behavior = {"service": {"distribution": "constant", "ms": SERVICE_MS}}
    backend = write("backend.json", {"models": [{
        "name": "toy", "placement": "pooled", "inputs": X, "outputs": Y,
        "instances": [{"synthetic": {"behavior": behavior}}],
    }]})
    places = [ports() for _ in range(4)]
    servers = [serve(backend, at, log) for at in places]
    remote = [{"remote": {"url": f"http://127.0.0.1:{at[0]}", "encoding": "binary"}} for at in places]
    front = ports()
    servers.append(serve(write(f"{policy}.json", {"models": [{
        "name": "toy", "placement": "pooled", "names": {"parity": ["toy"]}, "inputs": X, "outputs": Y,
        "redundancy": POLICIES[policy], "answer": {"when": "grace", "ms": GRACE_MS},
        "deadline_ms": 2000, "call_timeout_ms": 500, "instances": remote,
    }]}), front, log))
    # The restarted server is a child of the hook: its number is in a file.
    again = os.path.join(folder, "again")
    restart = f'"$@" > /dev/null 2>&1 & echo $! > {again}'
    faults = write("drill.json", {"faults": [
        {"at_s": EVERY, "kill": servers[0].pid, "name": "kill -9"},
        {"at_s": 2 * EVERY, "run": ["sh", "-c", restart, "restart", *command(backend, places[0])], "name": "restart"},
        {"at_s": 3 * EVERY, "stop": servers[1].pid, "name": "stop"},
        {"at_s": 4 * EVERY, "continue": servers[1].pid, "name": "continue"},
    ]})
    try:
        load = subprocess.run(
            ["parm-load", f"{policy}=http://127.0.0.1:{front[0]}", "-m", "toy", "--rate", str(RATE), "--seconds",
             str(5 * EVERY), "--seed", str(seed), "--data", rows, "--labels", labels, "--drill", faults, "--json", "-q"],
            check=True, capture_output=True, text=True)
        return json.loads(load.stdout)["runs"][0]
    finally:
        for process in servers:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        if os.path.exists(again):
            with open(again) as file:
                os.kill(int(file.read()), signal.SIGKILL)
            os.remove(again)


# A synthetic instance sums: the greatest element of a row is its class.
CLASSES = [0, 1, 2, 0]
rows = npy("rows.npy", (len(CLASSES), 8), "<f4",
           b"".join(struct.pack("<8f", *(float(at % 3 == of) for at in range(8))) for of in CLASSES))
labels = npy("labels.npy", (len(CLASSES),), "|u1", bytes(CLASSES))
runs = []


def column(faults, key, form):
    """The median over trials, and the least and the greatest; a fault without recovery counts as the longest."""
    found = sorted(math.inf if fault[key] is None else fault[key] for fault in faults)
    show = lambda value: "-" if value == math.inf else format(value, form)
    return f"{show(statistics.median(found))} ({show(found[0])}-{show(found[-1])})"


print(f"{'policy':10} {'fault':9} {'lost':>5} {'worst':>18} {'recovery':>18} {'rebuilt':>21} {'accuracy':>9}   P99 of all")
for policy in chosen or POLICIES:
    trials = [drill(policy, seed) for seed in range(TRIALS)]
    runs.extend(trials)
    p99 = statistics.median(run["latency_ms"]["p99"] for run in trials)
    for faults in zip(*(run["drill"] for run in trials)):
        lost = sum(fault["lost"] for fault in faults)
        accuracy = min(fault["accuracy"] for fault in faults)
        print(f"{policy:10} {faults[0]['fault']:9} {lost:5} {column(faults, 'worst_ms', '.1f'):>18} "
              f"{column(faults, 'recovery_ms', '.0f'):>18} {column(faults, 'reconstructed', '.2%'):>21} "
              f"{accuracy:9.4f}   {p99:.1f}", flush=True)
with open(report, "w") as file:
    json.dump({"format": 1, "runs": runs}, file)

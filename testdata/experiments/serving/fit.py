#!/usr/bin/env python3
"""Whether parm-sim predicts what parm-serve does: a cluster is fitted to a run without redundancy, and other policies are
predicted at three rates.

Usage: fit.py FOLDER STEP..., where the steps are, in this order:

run       records a run without redundancy at a middle rate, and fits a cluster to its journal
RATE      measures all policies at this rate, five trials each: for real (4.5 minutes)
tables    predicts all rates that were measured, and prints the tables
trace     measures the policy auto at 30 -> 480 -> 30 queries a second, and prints it beside the simulations

Instances are synthetic, 18 that are slow in a part of the time. With MLSERVER in the environment, the path of that program,
they are six processes of MLServer on this machine, whose times are their own.

Steps that measure need a machine without other work. With QUICK in the environment, shorter runs; TRIAL_SECONDS and
FIT_SECONDS are the lengths of a trial and of the run that is fitted.
"""
import contextlib
import json
import os
import random
import re
import socket
import subprocess
import sys
import time
import urllib.request

import clusters
from clusters import coded, hedge, slow
from mlserver_fleet import fleet

QUICK = bool(os.environ.get("QUICK"))
TRIALS, STEP = (2, 1) if QUICK else (5, 4)
SECONDS = int(os.environ.get("TRIAL_SECONDS", 3 if QUICK else 12))
FIT_SECONDS = int(os.environ.get("FIT_SECONDS", 10 if QUICK else 90))
SEEDS = 39  # Of these and a further run, each is equally likely to be the least or the greatest.
QUANTILES = {"median": "P50", "p99": "P99", "p99.5": "P99.5", "p99.9": "P99.9"}
folder, *steps = sys.argv[1:]

MLSERVER = os.environ.get("MLSERVER")
# Synthetic instances are three times as slow in 6 % of the time.
INSTANCE = None if MLSERVER else slow(0.06, 3)
COUNT, RATE, LATE_MS, GRACE_MS = (6, 140, 6, 5) if MLSERVER else (18, 270, 45, 36)
ALL, APART = {None: COUNT}, {"deployed": COUNT * 2 // 3, "parity-0": COUNT // 3}
AUTO = {"policy": "auto", "coded": {"code": {"name": "sum", "k": 2}}, "hedge": {"after": {"ms": LATE_MS}, "budget": 0.05}}
POLICIES = {
    "equal": (ALL, {"policy": "none"}),
    "hedge": (ALL, hedge(LATE_MS, 0.05)),
    "coded": (APART, coded(2)),
    "pooled": (ALL, coded(2)),
}


def at(name):
    return os.path.join(folder, name)


def cluster(name, counts, redundancy, behavior, **more):
    """A configuration with one model; the fitted cluster is in the same place as the true one, which has no behavior if its
    instances are real."""
    of = clusters.model("m", counts, behavior, redundancy, answer={"when": "grace", "ms": GRACE_MS}, **more)
    if behavior is None:
        roles = [role for role, count in counts.items() for _ in range(count)]
        of["names"] = {"parity": ["m"]}
        of["instances"] = [
            {"remote": {"url": url, "encoding": "json"}} | ({"roles": [role]} if role else {})
            for url, role in zip(servers, roles)
        ]
    path = at(f"{name}.json")
    with open(path, "w") as file:
        json.dump({"models": [of]}, file)
    return path


def served(config, load, journal=None):
    """Runs parm-load with these options against a server with this configuration; its report."""
    with open(at("server.log"), "w") as log:
        command = ["parm-serve", config, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--log-format", "json"]
        server = subprocess.Popen(command + (["--journal", journal] if journal else []), stdout=log, stderr=log)
    try:
        address = None
        for _ in range(200):
            found = re.search('"http":"([0-9.:]+)"', open(at("server.log")).read())
            try:
                address = found and f"http://{found[1]}"
                urllib.request.urlopen(f"{address}/v2/health/ready", timeout=1)
                break
            except (OSError, ValueError):
                time.sleep(0.05)
        else:
            sys.exit(f"{config}: the server did not become ready in 10 s")
        command = ["parm-load", address, "-m", "m", "--json", "-q", *map(str, load)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["runs"][0]
    finally:
        server.terminate()
        server.wait()


def sim(*options):
    command = ["parm-sim", *map(str, options)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def fitted():
    """The behavior of most instances, and the server's own times, of the fitted cluster."""
    with open(at("fitted.json")) as file:
        model = json.load(file)["models"][0]
    most = max(model["instances"], key=lambda of: of["synthetic"]["count"])
    return most["synthetic"]["behavior"], {"overhead": model["overhead"]}


def record():
    config = cluster("equal", *POLICIES["equal"], INSTANCE)
    records, journal = at("run.jsonl"), at("run-journal.jsonl")
    served(config, ["--rate", RATE, "--seconds", FIT_SECONDS, "--records", records], journal)
    print(sim("fit", journal, records, "-o", at("fitted.json")))
    checked = subprocess.run(["parm-sim", "check", records, at("fitted.json")], capture_output=True, text=True)
    print(checked.stdout)


def measure(rate):
    for name, (counts, redundancy) in POLICIES.items():
        config = cluster(f"{name}-{rate}", counts, redundancy, INSTANCE)
        load = ["--rate", rate, "--seconds", SECONDS, "--trials", TRIALS]
        run = served(config, load)
        with open(at(f"measured-{name}-{rate}.json"), "w") as file:
            json.dump(run, file)
        print(rate, name, run["latency_ms"], flush=True)


def tables():
    """Medians over the real trials beside medians over the seeds; an error that is neither within 5 % (of the P99.9 10 %)
    nor within the spread of the trials is marked."""
    behavior, more = fitted()
    print(f"{'':6} {'rate':>4} {'':6} {'measured':>8} {f'({TRIALS} trials)':>16} {'predicted':>9} {'(95 %)':>16} {'error':>7}")
    rates = sorted(int(found[1]) for name in os.listdir(folder) if (found := re.fullmatch(r"measured-equal-(\d+)\.json", name)))
    missed = every = 0
    for name, (counts, redundancy) in POLICIES.items():
        for rate in rates:
            with open(at(f"measured-{name}-{rate}.json")) as file:
                real = json.load(file)
            path = cluster(f"predicted-{name}", counts, redundancy, behavior, **more)
            run = json.loads(sim(path, "--rate", rate, "--queries", rate * SECONDS, "--seeds", SEEDS, "--json"))["runs"][0]
            for key, label in QUANTILES.items():
                value = lambda of: of["latency_ms"][key]
                error = value(run) / value(real) - 1
                spread = (value(real["min"]), value(real["max"]))
                within = abs(error) <= (0.1 if key == "p99.9" else 0.05)
                mark = "" if within else " in spread" if spread[0] <= value(run) <= spread[1] else " MISSED"
                missed += mark == " MISSED"
                every += 1
                low, high = value(run["min"]), value(run["max"])
                print(f"{name:6} {rate:4} {label:6} {value(real):8.2f} {f'({spread[0]:.1f}-{spread[1]:.1f})':>16} "
                      f"{value(run):9.2f} {f'({low:.1f}-{high:.1f})':>16} {error:+7.1%}{mark}")
    print(f"{every - missed} of {every} predicted")


def trace():
    """Arrival times of 30 -> 480 -> 30 queries a second in 15 steps, as records."""
    draw, now, number = random.Random(7), 0.0, 0
    steps = [30 + 450 * i / 7 for i in range(8)]
    steps += steps[-2::-1]
    with open(at("trace.jsonl"), "w") as file:
        while now < STEP * len(steps):
            now += draw.expovariate(480)
            if now < STEP * len(steps) and draw.random() < steps[int(now / STEP)] / 480:
                ns = round(now * 1e9)
                record = {"rate": 1.0, "query": number, "intended_ns": ns, "sent_ns": ns, "ended_ns": ns, "outcome": "timeout"}
                print(json.dumps(record), file=file)
                number += 1
    return len(steps)


def slices(path, count):
    """The median and the P99 of each step."""
    found = [[] for _ in range(count)]
    with open(path) as file:
        for record in map(json.loads, file):
            if record["outcome"] == "answered":
                step = min(int(record["intended_ns"] / 1e9 / STEP), count - 1)
                found[step].append((record["ended_ns"] - record["intended_ns"]) / 1e6)
    at = lambda times, share: sorted(times)[min(int(share * len(times)), len(times) - 1)]
    return [(at(times, 0.5), at(times, 0.99)) for times in found]


def auto():
    count = trace()
    config = cluster("auto", ALL, AUTO, INSTANCE)
    served(config, ["--trace", at("trace.jsonl"), "--warm-up", 0, "--records", at("auto.jsonl")])
    behavior, more = fitted()
    path = cluster("predicted-auto", ALL, AUTO, behavior, **more)
    simulated = []
    for seed in range(SEEDS):
        sim(path, "--trace", at("trace.jsonl"), "--warm-up", 0, "--seed", seed, "--records", at("simulated.jsonl"))
        simulated.append(slices(at("simulated.jsonl"), count))
    real, inside = slices(at("auto.jsonl"), count), 0
    print(f"{'from':>4} {'median':>7} {'(95 % band)':>16} {'P99':>7} {'(95 % band)':>16}")
    for step in range(count):
        cells = []
        for which in (0, 1):
            band = sorted(run[step][which] for run in simulated)
            low, high = band[0], band[-1]
            inside += low <= real[step][which] <= high
            cells.append(f"{real[step][which]:7.2f} {f'({low:.1f}-{high:.1f})':>16}{' ' if low <= real[step][which] <= high else '*'}")
        print(f"{step * STEP:3} s {' '.join(cells)}")
    print(f"{inside} of {2 * count} in the band")


os.makedirs(folder, exist_ok=True)
measuring = [step for step in steps if step != "tables"]
with fleet(MLSERVER, COUNT, os.path.abspath(at("mlserver"))) if MLSERVER and measuring else contextlib.nullcontext() as servers:
    for step in steps:
        {"run": record, "tables": tables, "trace": auto}.get(step, lambda: measure(int(step)))()

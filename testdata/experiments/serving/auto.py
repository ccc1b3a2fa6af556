#!/usr/bin/env python3
"""The policy auto against each static policy, over rates and faults and over a trace: a table, and a report for
parm-plot load.

At each point the best static policy is the one with the smallest gap (P99.9 - median) of those that keep the limits
of auto: at most 1 % reconstructions and 2.0 calls for each query. All have the same code and the same ejection.

Usage: auto.py REPORT.json FOLDER; the folder takes clusters, the trace, and the results of static policies, which are
not simulated twice. With QUICK in the environment, three seeds and fewer queries; with ONLY, only
points whose names contain it.
"""
import json
import math
import os
import random
import subprocess
import sys

import clusters
from clusters import ALL, EJECT, GRACE, coded, hedge, model, slow

QUICK = bool(os.environ.get("QUICK"))
QUERIES, SEEDS = (30_000, 3) if QUICK else (100_000, 10)
ONLY = os.environ.get("ONLY", "")
report, folder = sys.argv[1:]

LATE = {"after": {"ms": 36}, "budget": 0.05}
MAX_RECONSTRUCTED, MAX_CALLS = 0.01, 2.0


def policies(late=LATE):
    return {
        "none": {"policy": "none"},
        "replicate": {"policy": "replicate", "copies": 2},
        "hedge": {"policy": "hedge", **late},
        "coded": coded(2),
        "coded, hedge": coded(2, hedge=late),
        "auto": {"policy": "auto", "coded": {"code": {"name": "sum", "k": 2}}, "hedge": late},
    }


def one_slow(factor):
    """18 instances, of which one is slow for good."""
    healthy = slow(0.01, 5)["service"]
    sick = {**healthy, "mean_ms": 30 * factor, "deviation_ms": 1.5 * factor}
    return [{"synthetic": {"count": 17, "behavior": {"service": healthy}}},
            {"synthetic": {"count": 1, "seed": 1, "behavior": {"service": sick}}}]


SLOW1, SLOW6, MANY = slow(0.01, 5), slow(0.06, 3), slow(0.2, 5)
RACKS = {"faults": {"racks": {"count": 3, "slow": SLOW1["slow"]}}}
# Name: the instances' behavior, further fields of the model, the rates.
POINTS = {
    "1 % slow": (SLOW1, {}, [30, 60, 120, 180, 240, 300, 360, 420, 480]),
    "1 % slow, ejection": (SLOW1, {"ejection": EJECT}, [120, 270, 420]),
    "6 % slow": (SLOW6, {}, [120, 270, 360, 420, 480]),
    "6 % slow, ejection": (SLOW6, {"ejection": EJECT}, [120, 270, 420]),
    "racks": ({"service": SLOW1["service"]}, RACKS, [120, 270, 420]),
    "crashes": (SLOW1 | {"crash": {"every_ms": 20_000, "down_ms": 500}}, {"ejection": EJECT}, [120, 270, 420]),
    "a fifth slow": (MANY, {}, [120, 270]),
    "one slow for good": (SLOW1, {"instances": one_slow(3)}, [120, 270, 420]),
    "one slow for good, ejection": (SLOW1, {"instances": one_slow(3), "ejection": EJECT}, [120, 270, 420]),
    "ParM's network": (clusters.PARM, {"faults": clusters.SHUFFLES, "answer": {"when": "grace", "percentile": 99}},
                       [150, 270, 390]),
}


def trace(name):
    """Arrival times of 30 -> 480 -> 30 queries a second, in seconds: eight steps up and seven down, or a ramp."""
    draw, times, now = random.Random(7), [], 0.0
    length = 40.0 if QUICK else 120.0
    steps = [30 + 450 * i / 7 for i in range(8)]
    steps += steps[-2::-1]
    end = length * len(steps)

    def rate(at):
        if name == "steps":
            return steps[min(int(at / length), len(steps) - 1)]
        return 30 + 450 * (1 - abs(2 * at / end - 1))

    while now < end:
        # Thinning: candidates at the largest rate, kept in proportion.
        now += draw.expovariate(480)
        if draw.random() < rate(now) / 480:
            times.append(now)
    return times


def write_trace(name):
    path = f"{folder}/auto-{name}.jsonl"
    with open(path, "w") as file:
        for number, at in enumerate(trace(name)):
            ns = round(at * 1e9)
            record = {"rate": 1.0, "query": number, "intended_ns": ns, "sent_ns": ns, "ended_ns": ns,
                      "outcome": "timeout"}
            print(json.dumps(record), file=file)
    return path


def sim(models, *options):
    """The runs of parm-sim, from the folder if they are there."""
    key = json.dumps([models, options, QUERIES, SEEDS], sort_keys=True)
    known = f"{folder}/auto-known.json"
    found = json.load(open(known)) if os.path.exists(known) else {}
    if key not in found:
        path = f"{folder}/auto-cluster.json"
        with open(path, "w") as file:
            json.dump({"models": models}, file)
        command = ["parm-sim", path, "--json", "-q", "--seeds", str(SEEDS), *map(str, options)]
        runs = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["runs"]
        if models[0]["redundancy"]["policy"] == "auto":
            return runs
        found[key] = runs
        with open(known, "w") as file:
            json.dump(found, file)
    return found[key]


def gap(run):
    return run["latency_ms"]["gap"] if run["latency_ms"]["gap"] is not None else math.inf


def compare(point, load, behavior, more, *options):
    """A line for each rate."""
    more = dict(more)
    late = LATE
    if behavior == clusters.PARM:
        late = {**LATE, "after": {"ms": 28}}
    runs = {}
    for name, redundancy in policies(late).items():
        of = model(name, ALL, behavior, redundancy, **({"answer": GRACE} | more))
        for run in sim([of], *options):
            runs.setdefault(run["rate"] if load is None else load, {})[name] = run
    for rate, of in runs.items():
        auto, equal = of["auto"], of["none"]
        within = {name: run for name, run in of.items() if name != "auto"
                  and run["reconstructed"] <= MAX_RECONSTRUCTED and run["calls"] <= MAX_CALLS + 0.005}
        best = min(within, key=lambda name: gap(within[name]))
        p99 = lambda run: run["latency_ms"]["p99"]
        bound = max(1.15 * p99(equal), p99(within[best]))
        ratio = gap(auto) / gap(within[best])
        lost = auto["failed"] > within[best]["failed"] + 1e-9
        holds = ratio <= 1.2 and p99(auto) <= bound and not lost and auto["reconstructed"] <= MAX_RECONSTRUCTED + 5e-4
        gaps = " ".join(f"{gap(of[name]):7.2f}{' ' if name in within else '*'}" for name in policies() if name != "auto")
        print(f"{point:28} {rate!s:>6} {gaps} {gap(auto):7.2f} {ratio:5.2f} {p99(auto):7.2f} {bound:7.2f} "
              f"{auto['reconstructed']:7.2%} {auto['hedged']:7.2%} {auto['calls']:6.3f} {auto['busy']:5.2f} "
              f"{'holds' if holds else 'FAILS'}  {best}", flush=True)
        every.extend({**run, "name": name} for name, run in of.items() if point == "1 % slow")


every = []
names = [name for name in policies() if name != "auto"]
print(f"{'':28} {'rate':>6} {' '.join(f'{name[:7]:>7} ' for name in names)} {'auto':>7} {'ratio':>5} {'P99':>7} "
      f"{'bound':>7} {'rebuilt':>7} {'hedged':>7} {'calls':>6} {'busy':>5}        best")
for point, (behavior, more, rates) in POINTS.items():
    if ONLY in point:
        compare(point, None, behavior, more, "--rates", ",".join(map(str, rates)), "--queries", QUERIES,
                "--warm-up", 10)
for name in ("steps", "ramp"):
    if ONLY in name:
        compare(f"trace, 30-480-30 in {name}", name, SLOW1, {}, "--trace", write_trace(name))
with open(report, "w") as file:
    json.dump({"format": 1, "runs": every}, file)

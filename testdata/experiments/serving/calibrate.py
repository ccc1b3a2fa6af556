#!/usr/bin/env python3
"""Fits the simulated cluster of ParM to one row of its table: Equal-Resources at 270 queries a second.

Four numbers are free: the mean and the deviation of an instance's own time, and the median and the
spread of the network's. A pattern search lessens the squared relative errors of the median, P99, P99.5
and P99.9. Prints what PARM in clusters.py is. Usage: calibrate.py PARM_SIM
"""
import json
import math
import subprocess
import sys
import tempfile

import clusters

ROW = {"median": 20.32, "p99": 33.30, "p99.5": 38.29, "p99.9": 52.84}


def behavior(x):
    mean, deviation, network, sigma = x
    return {
        "service": {"distribution": "normal", "mean_ms": round(mean, 3), "deviation_ms": round(deviation, 3)},
        "network": {"distribution": "log-normal", "median_ms": round(network, 4), "sigma": round(sigma, 4)},
    }


def error(x):
    if min(x) <= 0:
        return math.inf, None
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"models": clusters.parm(behavior(x))[:1]}, file)
        file.flush()
        command = [sys.argv[1], file.name, "--rate", "270", "--seeds", "6", "--json", "-q"]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    found = found["runs"][0]["latency_ms"]
    return sum((found[of] / want - 1) ** 2 for of, want in ROW.items()), found


x, step = [17.5, 0.8, 1.5, 0.9], [1.0, 0.3, 0.4, 0.15]
best, found = error(x)
while max(s / v for s, v in zip(step, x)) > 0.004:
    moved = False
    for axis in range(4):
        for sign in (1, -1):
            y = list(x)
            y[axis] += sign * step[axis]
            tried, what = error(y)
            if tried < best:
                x, best, found, moved = y, tried, what, True
                break
    if not moved:
        step = [s / 2 for s in step]
print(json.dumps(behavior(x)))
print(f"error {best:.6f}", {of: round(found[of], 2) for of in ROW}, file=sys.stderr)

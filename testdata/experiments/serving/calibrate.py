#!/usr/bin/env python3
"""Fits the simulated cluster of ParM to one row of its table: Equal-Resources at 270 queries a second.

Five numbers are free: the typical time of a call, the share of calls that are shorter and by how much, and the share
that the network disturbs and for how long (the law `times` in clusters.py). A pattern search lessens the squared
relative errors of the median, the mean, P99, P99.5 and P99.9; those of median and mean are taken four times.
Prints what FITTED in clusters.py is. Usage: calibrate.py PARM_SIM
"""
import json
import math
import subprocess
import sys
import tempfile

import clusters

ROW = {"median": 20.32, "mean": 20.24, "p99": 33.30, "p99.5": 38.29, "p99.9": 52.84}
WEIGHT = {"median": 4, "mean": 4}


def error(x):
    if min(x.values()) <= 0 or x["short"] > 0.5 or x["disturbed"] > 0.5:
        return math.inf, None
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"models": clusters.parm(clusters.times(**x))[:1]}, file)
        file.flush()
        command = [sys.argv[1], file.name, "--rate", "270", "--seeds", "6", "--json", "-q"]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    found = found["runs"][0]["latency_ms"]
    return sum((WEIGHT.get(of, 1) * (found[of] / want - 1)) ** 2 for of, want in ROW.items()), found


x = {"typical": 18.8, "short": 0.12, "by": 6.0, "disturbed": 0.05, "mean": 4.5}
step = {"typical": 0.3, "short": 0.05, "by": 2.0, "disturbed": 0.02, "mean": 1.0}
best, found = error(x)
while max(step[of] / x[of] for of in x) > 0.01:
    moved = False
    for of in x:
        for sign in (1, -1):
            tried, what = error(y := x | {of: x[of] + sign * step[of]})
            if tried < best:
                x, best, found, moved = y, tried, what, True
                break
    if not moved:
        step = {of: size / 2 for of, size in step.items()}
print(json.dumps({of: round(value, 4) for of, value in x.items()}))
print(f"error {best:.6f}", {of: round(found[of], 2) for of in ROW}, file=sys.stderr)

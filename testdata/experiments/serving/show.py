#!/usr/bin/env python3
"""A short table of what parm-sim --json found: the gap P99.9 - median with its range over seeds, and how
many times smaller it is than the first model's at the same rate (of those whose names end in the same
brackets). With `calls`, also the calls of instances for each query. Usage: show.py RESULTS.json [calls]
"""
import json
import sys

calls = sys.argv[2:] == ["calls"]
runs = json.load(open(sys.argv[1]))["runs"]
setting = lambda run: (run["rate"], "".join(run["name"].partition(" (")[1:]))
first = {setting(run): run["latency_ms"]["gap"] for run in reversed(runs)}
width = max(len(run["name"]) for run in runs)
head = ("median", "P99", "P99.9", "gap", "(range)", "smaller", "rebuilt", "hedged", "busy")
print(f"{'':{width}} {'rate':>5} {head[0]:>7} {head[1]:>7} {head[2]:>8} {head[3]:>7} {head[4]:>17} "
      f"{head[5]:>8} {head[6]:>8} {head[7]:>7} {head[8]:>5}" + (f" {'calls':>6}" if calls else ""))
for run in runs:
    ms, least, most = run["latency_ms"], run["min"]["latency_ms"]["gap"], run["max"]["latency_ms"]["gap"]
    print(f"{run['name']:{width}} {run['rate']:5g} {ms['median']:7.2f} {ms['p99']:7.2f} {ms['p99.9']:8.2f} "
          f"{ms['gap']:7.2f} {f'({least:.1f}-{most:.1f})':>17} {first[setting(run)] / ms['gap']:7.2f}x "
          f"{run['reconstructed']:8.2%} {run['hedged']:7.2%} {run['busy']:5.2f}" +
          (f" {run['calls']:6.3f}" if calls else ""))

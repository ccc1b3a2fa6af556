#!/usr/bin/env python3
"""How tail, cost and group wait go with size: the tables of parm-scale(7), and a report for parm-plot load.

Usage: scale.py REPORT.json FOLDER; the folder takes clusters and journals. With QUICK in the environment, less.
"""
import json
import os
import subprocess
import sys

import clusters

QUICK = bool(os.environ.get("QUICK"))
SIZES = [12, 120, 1200] if QUICK else [12, 120, 1200, 12_000]
LOAD = 15  # Queries a second for each instance: half of what it can do, less a tenth.
QUERIES, SEEDS = (20_000, 2) if QUICK else (200_000, 5)
RATES = [9, 18, 45, 90, 180, 450, 1800]
report, folder = sys.argv[1:]


def sim(models, *options):
    """The report of parm-sim."""
    path = f"{folder}/scale-cluster.json"
    with open(path, "w") as file:
        json.dump({"models": models}, file)
    command = ["parm-sim", path, "--json", "-q", *map(str, options)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["runs"]


def waits(path):
    """Of each group: how long its first query waited until the parity query was sent, in ms, and whether the group
    was completed with queries of earlier groups."""
    arrived, grouped, found = {}, set(), []
    with open(path) as file:
        for entry in map(json.loads, file):
            if entry["event"] == "arrive":
                arrived[entry["query"]] = entry["t_ns"]
            elif entry["event"] == "dispatch" and entry["task"] == "parity":
                members = {query for slot in entry["slots"] for query in slot}
                new = members - grouped
                grouped |= new
                if new:
                    first = min(arrived[query] for query in new)
                    found.append(((entry["t_ns"] - first) / 1e6, len(new) < len(members)))
    return found


runs = []
print(f"{'':14} {'instances':>9} {'rate':>7} {'median':>7} {'P99':>7} {'P99.9':>7} {'rebuilt':>8} {'calls':>6} {'busy':>5}")
for size in SIZES:
    queries = max(20_000 if QUICK else 100_000, 100 * size)
    found = sim(clusters.scale(size), "--rate", size * LOAD, "--queries", queries, "--seeds", 2 if QUICK else 5)
    runs += found
    for run in found:
        ms = run["latency_ms"]
        print(f"{run['name']:14} {size:9} {run['rate']:7.0f} {ms['median']:7.2f} {ms['p99']:7.2f} {ms['p99.9']:7.2f} "
              f"{run['reconstructed']:8.2%} {run['calls']:6.3f} {run['busy']:5.2f}")
with open(report, "w") as file:
    json.dump({"format": 1, "runs": runs}, file)



def grouped(size, k):
    return clusters.model("pooled", {None: size}, clusters.slow(0.01, 5), clusters.coded(k), answer=clusters.GRACE)


def group(size, k, rate):
    """What parm-sim finds of pooled instances, and of 20 000 queries the mean and the P99 of waits and the share of
    groups that were completed."""
    journal = f"{folder}/scale-journal.jsonl"
    sim([grouped(size, k)], "--rate", rate, "--queries", 20_000, "--journal", journal)
    run = sim([grouped(size, k)], "--rate", rate, "--queries", QUERIES, "--seeds", SEEDS)[0]
    groups = waits(journal)
    times = sorted(time for time, _ in groups)
    return run, sum(times) / len(times), times[int(0.99 * len(times))], sum(late for _, late in groups) / len(groups)


print(f"\n{'':3} {'rate':>5} {'wait: mean':>10} {'P99':>6} {'completed':>9} {'calls':>6} {'P99.9':>7}")
for k in (2, 4):
    for rate in RATES:
        run, mean, p99, completed = group(120, k, rate)
        print(f"k={k} {rate:5} {mean:10.2f} {p99:6.2f} {completed:9.2%} {run['calls']:6.3f} {run['latency_ms']['p99.9']:7.2f}")

print(f"\n{'servers':>7} {'instances':>9} {'rate':>5} {'equal: P99':>10} {'P99.9':>7} {'pooled: P99':>11} {'P99.9':>7} "
      f"{'rebuilt':>8} {'wait':>5}")
for servers in (1, 2, 5, 10, 20, 40):
    size = 120 // servers
    equal = sim(clusters.scale(size)[:1], "--rate", size * LOAD, "--queries", QUERIES, "--seeds", SEEDS)[0]
    run, mean, _, _ = group(size, 2, size * LOAD)
    alone, coded = equal["latency_ms"], run["latency_ms"]
    print(f"{servers:7} {size:9} {size * LOAD:5} {alone['p99']:10.2f} {alone['p99.9']:7.2f} {coded['p99']:11.2f} "
          f"{coded['p99.9']:7.2f} {run['reconstructed']:8.2%} {mean:5.2f}")
single = sim(clusters.scale(1)[:1], "--rate", LOAD, "--queries", QUERIES, "--seeds", SEEDS)[0]["latency_ms"]
print(f"an instance of its own for each: median {single['median']:.2f}, P99 {single['p99']:.2f}, P99.9 {single['p99.9']:.2f}")

print(f"\n{'sharing':>7} {'equal: median':>13} {'P99':>7} {'P99.9':>7} {'pooled: median':>14} {'P99':>7} {'P99.9':>7} {'rebuilt':>8}")
for servers in (1, 2, 3, 5, 10, 20, 40):
    models = clusters.scale(120)
    found = sim([models[0], models[3]], "--rate", 120 * LOAD, "--servers", servers, "--queries", QUERIES, "--seeds", SEEDS)
    alone, coded = (run["latency_ms"] for run in found)
    print(f"{servers:7} {alone['median']:13.2f} {alone['p99']:7.2f} {alone['p99.9']:7.2f} {coded['median']:14.2f} "
          f"{coded['p99']:7.2f} {coded['p99.9']:7.2f} {found[1]['reconstructed']:8.2%}")

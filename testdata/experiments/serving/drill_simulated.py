#!/usr/bin/env python3
"""The faults of drill.py, simulated over many seeds: one of four instances crashes or stops at a random time, for five
seconds. For each policy the recovery (as parm-load --drill has it) and the worst query; medians, and shares of trials.

Usage: drill_simulated.py FOLDER [POLICY…]; the folder takes the cluster, the journal and the records.
"""
import bisect
import json
import statistics
import subprocess
import sys

import clusters

folder, *chosen = sys.argv[1:]
SECOND, SEEDS, RATE, CALL_TIMEOUT_MS = 10**9, 300, 100, 500
CODE, LATE = {"code": {"name": "sum", "k": 2}}, {"after": {"ms": 20}, "budget": 0.05}
POLICIES = {
    "none": {"policy": "none"},
    "replicate": {"policy": "replicate", "copies": 2},
    "hedge": {"policy": "hedge", **LATE},
    "coded": {"policy": "coded", **CODE},
    "auto": {"policy": "auto", "coded": CODE, "hedge": LATE},
}
# What happens to the fourth instance; the event of the journal that shows it, and how long after the fault that comes.
FAULTS = {
    "kill -9": ({"crash": {"every_ms": 9000, "down_ms": 6000}}, "failed", 0),
    "stop": ({"slow": {"share": 0.3, "length_ms": 5000, "factor": 600}}, "cancelled", CALL_TIMEOUT_MS * 10**6),
}


def p99(latencies):
    return sorted(latencies)[-(-len(latencies) * 99 // 100) - 1] if latencies else 0


def recovery(requests, begin, limit):
    """The time in ms to the first second, from this time on, whose P99 is within the limit; infinite if there is none."""
    due = [request["intended_ns"] for request in requests]
    for moment in [begin, *due]:
        within = requests[bisect.bisect_left(due, moment):bisect.bisect_left(due, moment + SECOND)]
        if within and moment + SECOND <= due[-1] and p99([took(request) for request in within]) <= limit:
            return (moment - begin) / 1e6
    return float("inf")


def took(request):
    return request["ended_ns"] - request["intended_ns"]


def trial(policy, fault, seed):
    """Recovery and worst query in ms; none if there is no fault with five seconds before and after it."""
    behavior = {"service": {"distribution": "constant", "ms": 10.3},
                "network": {"distribution": "normal", "mean_ms": 0.4, "deviation_ms": 0.1}}
    faulty, event, after = FAULTS[fault]
    model = clusters.model("toy", {None: 4}, behavior, POLICIES[policy], answer={"when": "grace", "ms": 20},
                           deadline_ms=2000, call_timeout_ms=CALL_TIMEOUT_MS, instances=[
                               {"synthetic": {"count": 3, "behavior": behavior}},
                               {"synthetic": {"count": 1, "seed": 5, "behavior": behavior | faulty}}])
    del model["ejection"]
    cluster, journal, records = (f"{folder}/simulated-{name}" for name in ("cluster.json", "journal.jsonl", "records.jsonl"))
    with open(cluster, "w") as file:
        json.dump({"models": [model]}, file)
    subprocess.run(["parm-sim", cluster, "--rate", str(RATE), "--queries", str(22 * RATE), "--warm-up", "2", "--seed",
                    str(seed), "--journal", journal, "--records", records, "-q"], check=True, stdout=subprocess.DEVNULL)
    with open(journal) as lines:
        shown = next((entry["t_ns"] for entry in map(json.loads, lines) if entry["event"] == event), None)
    # The journal begins with the warm-up.
    begin = None if shown is None else shown - after - 2 * SECOND
    if begin is None or not 5 * SECOND <= begin <= 16 * SECOND:
        return None
    with open(records) as lines:
        requests = sorted(map(json.loads, lines), key=lambda request: request["intended_ns"])
    due = lambda least, most: [request for request in requests if least <= request["intended_ns"] < most]
    before = [p99([took(request) for request in due(begin - back * SECOND, begin - (back - 1) * SECOND)
                   if request["ended_ns"] <= begin]) for back in range(1, 6)]
    worst = max(took(request) for request in due(0, begin + 5 * SECOND) if request["ended_ns"] > begin)
    return recovery(due(begin, begin + 5 * SECOND), begin, 1.1 * max(before)), worst / 1e6


for policy in chosen or POLICIES:
    for fault in FAULTS:
        found = [result for seed in range(SEEDS) if (result := trial(policy, fault, seed))]
        recoveries, worst = zip(*found)
        share = lambda values, most: sum(value <= most for value in values) / len(values)
        print(f"{policy:10} {fault:8} {len(found):4} trials, recovery {statistics.median(recoveries):6.0f} ms, within 175.5 ms "
              f"{share(recoveries, 175.5):4.0%}; worst {statistics.median(worst):5.1f} ms, within 30 ms {share(worst, 30):4.0%}",
              flush=True)

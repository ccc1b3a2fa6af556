#!/usr/bin/env python3
"""The clusters of the serving experiments, as configurations that parm-serve and parm-sim run alike.

Usage: clusters.py NAME > CLUSTER.json, where NAME is one of the functions without parameters below.
"""
import json
import math
import statistics
import sys

# The spread of most calls in ParM's cluster, and the network's time of most of them, in ms.
SPREAD, NETWORK = 0.25, 1.0


def times(typical, short, by, disturbed, mean):
    """The law of ParM's calls, in ms: most take a typical time of computing, a share is shorter by up to `by`; and a
    share is disturbed on the network, for an exponentially distributed time."""
    normal = statistics.NormalDist(typical, SPREAD)
    shares = [i / 50 for i in range(1, 50)]
    calls = [(0, typical - by), *((short + (1 - short) * share, normal.inv_cdf(share)) for share in shares)]
    # The disturbed share in steps of a tenth of the rest.
    steps = [0.9**i for i in range(80)]
    network = [(0, NETWORK), *((1 - disturbed * left, NETWORK - mean * math.log(left)) for left in steps)]
    law = lambda pairs: [[round(share, 6), round(ms, 3)] for share, ms in [*pairs, (1, pairs[-1][1])]]
    quantiles = lambda pairs: {"distribution": "quantiles", "quantiles": law(pairs)}
    return {"service": quantiles(calls), "network": quantiles(network)}


# What calibrate.py found from the row Equal-Resources of ParM's table at 270 queries a second alone.
FITTED = {"typical": 19.175, "short": 0.1481, "by": 9.5, "disturbed": 0.0713, "mean": 4.5}
PARM = times(**FITTED)
# Four transfers at once. In the paper each has 128 to 256 MB, which a gigabit carries in one to two
# seconds, and two flows that share a link get half of it each.
SHUFFLES = {"shuffles": {"concurrent": 4, "min_ms": 1000, "max_ms": 2000, "factor": 2}}


# How much slower the instances of other types are. On c5.xlarge nothing was measured for us: 3.25 times, so that
# 24 of them at the highest rate of the paper's sweep (240/s) are as loaded as 12 of p2.xlarge at theirs (390/s).
WORKERS = {"p2.xlarge": 1.0, "c5.xlarge": 3.25}
# What each further row of a batch takes, of the time of one row. Not measured either.
FURTHER_ROW = 0.5
# What the approximate model takes, of the deployed one's time: of what is at most 1, nearest to the paper's P99.9 at 150/s.
APPROXIMATE = 1.0
# Another service beside ours: 28 queries a second over two instances. A call that begins while its model runs,
# 18 ms for each of its queries, shares the processor with it.
NEIGHBOUR = {"share": 14 * 0.0182, "length_ms": 18.2, "factor": 2}


def neighbours(deployed, instances):
    """On which instances another service runs: a ninth, rounded up, spread over all, as the original does it."""
    count = int(round(deployed / 9 + 0.5))
    every = int(instances / count + 0.5)
    chosen = range(0, instances, every)
    return {number + (instances - chosen[-1]) // 2 for number in chosen}


def model(name, counts, behavior, redundancy=None, **more):
    """Instances by role; of one role that is None, pooled."""
    tensor = lambda name, elements: [{"name": name, "datatype": "FP32", "shape": [elements]}]
    synthetic = lambda count: {"synthetic": {"count": count, "behavior": behavior}}
    instances = [synthetic(n) | ({"roles": [role]} if role else {}) for role, n in counts.items() if n]
    return {
        "name": name, "inputs": tensor("x", 8), "outputs": tensor("y", 3),
        "placement": "pooled" if None in counts else "apart",
        "redundancy": redundancy or {"policy": "none"},
        "deadline_ms": 5000, "call_timeout_ms": 5000, "ejection": None, "instances": instances,
    } | more


def coded(k, r=1, **more):
    return {"policy": "coded", "code": {"name": "sum", "k": k, "r": r}} | more


def hedge(ms, budget, **more):
    return {"policy": "hedge", "after": {"ms": ms}, "budget": budget} | more


def parm(behavior=PARM):
    """ParM's GPU cluster: 12 + 12/k instances, and the times of coding that the paper gives."""
    constant = lambda ms: {"distribution": "constant", "ms": ms}
    models = [model("equal", {"deployed": 18}, behavior, faults=SHUFFLES)]
    for k, encode, decode in [(2, 0.093, 0.008), (3, 0.153, 0.014), (4, 0.193, 0.019)]:
        models.append(model(
            f"coded k={k}", {"deployed": 12, "parity-0": 12 // k}, behavior, coded(k), faults=SHUFFLES,
            answer={"when": "first"}, overhead={"encode": constant(encode), "decode": constant(decode)},
        ))
    return models


def slow(share, factor, length=500):
    """30 ms +- 5 %, and slow for a share of the time."""
    return {
        "service": {"distribution": "normal", "mean_ms": 30, "deviation_ms": 1.5},
        "slow": {"share": share, "length_ms": length, "factor": factor},
    }


GRACE = {"when": "grace", "ms": 36}
FIRST = {"when": "first"}
ALL, APART = {None: 18}, {"deployed": 12, "parity-0": 6}
# Out when calls take half as long again, back after a probe at half a second.
EJECT = {"failures": 3, "slowness": 1.5, "probe_ms": 500, "max_share": 0.3, "min_calls": 0, "slow_start_ms": 0}


def slow1():
    """1 % slow by 5 times, 18 instances in all (16 for k = 3)."""
    behavior = slow(0.01, 5)
    return [
        model("equal", ALL, behavior),
        model("hedge 45 ms", ALL, behavior, hedge(45, 0.05)),
        model("apart, first", APART, behavior, coded(2), answer=FIRST),
        model("apart, grace", APART, behavior, coded(2), answer=GRACE),
        model("pooled, grace", ALL, behavior, coded(2), answer=GRACE),
        model("pooled, grace, ejection", ALL, behavior, coded(2), answer=GRACE, ejection=EJECT),
        model("pooled, grace, k=3", {None: 16}, behavior, coded(3), answer=GRACE),
    ]


def base():
    """What 1 % slow does to 12 instances without redundancy: where advice begins."""
    return [model("base", {"deployed": 12}, slow(0.01, 5))]


def slow6():
    """6 % slow by 3 times: often two of a group are lost."""
    behavior = slow(0.06, 3)
    late = {"after": {"ms": 40}, "budget": 0.1}
    return [
        model("equal", ALL, behavior),
        model("equal, ejection", ALL, behavior, ejection=EJECT),
        model("hedge 40 ms, 5 %", ALL, behavior, hedge(40, 0.05)),
        model("hedge 40 ms, ejection", ALL, behavior, hedge(40, 0.05), ejection=EJECT),
        model("apart", APART, behavior, coded(2), answer=GRACE),
        model("pooled", ALL, behavior, coded(2), answer=GRACE),
        model("pooled, k=4 r=2", ALL, behavior, coded(4, 2), answer=GRACE),
        model("pooled, hedge", ALL, behavior, coded(2, hedge=late), answer=GRACE),
        model("pooled, ejection", ALL, behavior, coded(2), answer=GRACE, ejection=EJECT),
        model("pooled, k=4 r=2, ejection", ALL, behavior, coded(4, 2), answer=GRACE, ejection=EJECT),
    ]


def spiral():
    """Hedging with and without a budget, as load grows."""
    behavior = slow(0.06, 3)
    return [
        model("equal", ALL, behavior),
        model("hedge 31 ms, 5 %", ALL, behavior, hedge(31, 0.05)),
        model("hedge 31 ms, no budget", ALL, behavior, hedge(31, 1000, burst=1e6)),
    ]


def alternatives(behavior, faults=None):
    more = {"faults": faults} if faults else {}
    return [
        model("equal", ALL, behavior, **more),
        model("hedge 36 ms, 5 %", ALL, behavior, hedge(36, 0.05), **more),
        model("replicate", ALL, behavior, {"policy": "replicate", "copies": 2}, **more),
        model("pooled, grace", ALL, behavior, coded(2), answer=GRACE, **more),
    ]


def load():
    """What else the same instances could do, from low load to high."""
    return alternatives(slow(0.01, 5))


def racks():
    """A third of the instances is slow at once."""
    behavior = slow(0.01, 5)
    return alternatives({"service": behavior["service"]}, {"racks": {"count": 3, "slow": behavior["slow"]}})


def many():
    """A fifth of the time is slow: many are at once."""
    return alternatives(slow(0.2, 5))


def scale(size=120):
    """So many instances, each with the same load; and racks of twelve that are slow as one."""
    behavior = slow(0.01, 5)
    pool, rack = {None: size}, {"racks": {"count": max(size // 12, 1), "slow": behavior["slow"]}}
    racks = {"service": behavior["service"]}
    return [
        model("equal", pool, behavior),
        model("hedge 45 ms", pool, behavior, hedge(45, 0.05)),
        model("apart", {"deployed": size * 2 // 3, "parity-0": size // 3}, behavior, coded(2), answer=GRACE),
        model("pooled", pool, behavior, coded(2), answer=GRACE),
        model("equal, racks", pool, racks, faults=rack),
        model("pooled, racks", pool, racks, coded(2), answer=GRACE, faults=rack),
    ]


def hedging():
    """A benchmark of hedging (bhope/hedge): log-normal times of 5 ms on average, and 5 % of calls ten times as
    long. Its spread is not given: 0.386 gives P99 and P99.9 without hedges. 64 instances that all calls find free."""
    sigma, share, factor = 0.386, 0.05, 10
    normal, median = statistics.NormalDist(), 5 * math.exp(-(sigma**2) / 2)
    below = lambda ms: normal.cdf(math.log(ms / median) / sigma)
    shares = [0, *(i / 100 for i in range(1, 90)), *(0.9 + i / 200 for i in range(18)), 0.99, 0.993, 0.995, 0.997, 0.999,
              0.9995, 0.9999, 0.99999, 1]

    def quantile(wanted):
        least, most = 0.5, 400.0
        for _ in range(60):
            ms = (least + most) / 2
            least, most = (ms, most) if (1 - share) * below(ms) + share * below(ms / factor) < wanted else (least, ms)
        return round(least, 3)

    behavior = {"service": {"distribution": "quantiles", "quantiles": [[of, quantile(of)] for of in shares]}}
    pool, grace = {None: 64}, {"when": "grace", "ms": 12}
    late = {"after": {"ms": 12}, "budget": 0.1}
    return [
        model("none", pool, behavior),
        model("hedge P90, 10 %", pool, behavior, {"policy": "hedge", "after": {"percentile": 90}, "budget": 0.1}),
        model("replicate", pool, behavior, {"policy": "replicate", "copies": 2}),
        model("k=2", pool, behavior, coded(2), answer=grace),
        model("k=2, hedge 12 ms", pool, behavior, coded(2, hedge=late), answer=grace),
        model("k=3, hedge 12 ms", pool, behavior, coded(3, hedge=late), answer=grace),
        model("k=4, hedge 12 ms", pool, behavior, coded(4, hedge=late), answer=grace),
        model("k=4 r=2", pool, behavior, coded(4, 2), answer=grace),
        model("k=4 r=2, hedge 12 ms", pool, behavior, coded(4, 2, hedge=late), answer=grace),
    ]


if __name__ == "__main__":
    print(json.dumps({"models": globals()[sys.argv[1]]()}, indent=1))

"""The clusters of sim.sh, and its verdict."""
import json
import sys


# On a machine that does nothing else, timers of 1 ms and the transport take less at the P99, in ms.
BUSY = 4


def records(name):
    return [json.loads(line) for line in open(name)]


def latencies(name):
    return sorted((r["ended_ns"] - r["intended_ns"]) / 1e6 for r in records(name) if r["outcome"] == "answered")


def cluster(kind, seed=0, overhead=None):
    service = {"distribution": "normal", "mean_ms": 20, "deviation_ms": 1.5}
    behavior = {"service": service, "slow": {"share": 0.02, "length_ms": 300, "factor": 4}}
    if kind == "constant":
        behavior = {"service": {"distribution": "constant", "ms": 20}}
    count = 40 if kind == "constant" else 6
    tensor = lambda name: [{"name": name, "datatype": "FP32", "shape": [3]}]
    model = {
        "name": "m", "inputs": tensor("x"), "outputs": tensor("y"), "placement": "pooled",
        "redundancy": {"policy": kind} if kind != "constant" else {"policy": "none"},
        "answer": {"when": "grace", "ms": 26}, "ejection": None,
        "instances": [{"synthetic": {"count": count, "seed": seed, "behavior": behavior}}],
    }
    if overhead:
        times = [max(0.0, ms - 20) for ms in latencies(overhead)]
        model["overhead"] = {"call": {"distribution": "measured", "times_ms": times}}
    print(json.dumps({"models": [model]}))


def verdict(policy):
    within = lambda sorted_, share: sorted_[min(len(sorted_) - 1, int(share * len(sorted_)))]
    runs = [json.loads(line)["runs"][0] for line in open(f"{policy}-simulated.jsonl")]
    beside = [ms - 20 for ms in latencies(f"{policy}-overhead.jsonl")]
    print(f"{policy:6} a call costs {within(beside, 0.5):.2f} ms (P99 {within(beside, 0.99):.2f}) beside its time")
    if within(beside, 0.99) > BUSY:
        print(f"{policy:6} this machine does something else, too: what follows says nothing of parm-sim")
    real = [latencies(f"{policy}-{seed}.jsonl") for seed in (1, 2, 3)]
    for name, share in (("median", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
        simulated = sorted(run["latency_ms"][name] for run in runs)
        # Of fifty the 95 % in the middle leave out one at each end.
        low, high = simulated[1], simulated[-2]
        found = sorted(within(run, share) for run in real)
        good = "in the band" if low <= found[1] <= high else "OUTSIDE"
        print(f"{policy:6} {name:6} real {found[1]:8.2f} ms ({found[0]:.2f} to {found[2]:.2f}), "
              f"simulated {simulated[25]:8.2f} ms, 95 %: {low:.2f} to {high:.2f}: {good}")
    rate = lambda name: sum(record.get("reconstructed", 0) for record in records(name)) / len(latencies(name))
    rebuilt = sorted(rate(f"{policy}-{seed}.jsonl") for seed in (1, 2, 3))
    shares = sorted(run["reconstructed"] for run in runs)
    print(f"{policy:6} rebuilt real {rebuilt[1]:8.4f}, simulated {shares[25]:.4f}, 95 %: {shares[1]:.4f} to {shares[-2]:.4f}")


if sys.argv[1] == "verdict":
    verdict(sys.argv[2])
else:
    cluster(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0, sys.argv[3] if len(sys.argv) > 3 else None)

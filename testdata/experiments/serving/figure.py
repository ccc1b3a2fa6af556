#!/usr/bin/env python3
"""A figure of ParM's, from the configuration that the reference implementation has for it, as a cluster.

Usage: figure.py CONFIG.json CLUSTER.json writes the cluster and prints parm-sim's options: the rates, and as
many queries and seeds as the configuration says; with QUICK in the environment, 20 000 queries.

All combinations of background_traffic, ec_k_val, batch_sizes and redundancy_modes become models. Where a
list has several values a model's name ends in its own, in brackets. worker_type chooses the instances. Keys
that say how to launch machines (the type of the front end and of clients, their number, tags) mean nothing
here.
"""
import itertools
import json
import os
import sys

import clusters

CONSTANT = {key: {"distribution": "constant", "ms": ms} for key, ms in [("encode 2", 0.093), ("encode 3", 0.153),
            ("encode 4", 0.193), ("decode 2", 0.008), ("decode 3", 0.014), ("decode 4", 0.019)]}


def behavior(worker, times=1.0, slow=None):
    """An instance: `times` as slow as one that runs the deployed model, and slow periods of its own."""
    times *= clusters.WORKERS[worker]
    law = clusters.PARM["service"]
    service = law | {"quantiles": [[share, round(ms * times, 3)] for share, ms in law["quantiles"]]}
    further = {"per_row_ms": round(clusters.FITTED["typical"] * times * clusters.FURTHER_ROW, 3)}
    return {"service": service, "network": clusters.PARM["network"]} | further | ({"slow": slow} if slow else {})


def instances(config, mode, k, multitenant):
    """Those of one model, as parm-serve.json has them: deployed ones, then what is redundant."""
    deployed, extra = config["num_models"], config["num_models"] // k if mode != "none" else 0
    role = {"equal": "deployed", "coded": "parity-0", "cheap": "cheap", "none": "deployed"}[mode]
    roles = ["deployed"] * deployed + [role] * extra
    neighbours = clusters.neighbours(deployed, deployed + extra) if multitenant else set()
    kinds = [(role, number in neighbours) for number, role in enumerate(roles)]
    for (role, beside), group in itertools.groupby(kinds):
        times = clusters.APPROXIMATE if role == "cheap" else 1.0
        slow = clusters.NEIGHBOUR if beside else None
        count = len(list(group))
        synthetic = {"count": count, "behavior": behavior(config["worker_type"], times, slow)}
        yield {"roles": [role], "synthetic": synthetic}


def models(config):
    axes = ["background_traffic", "ec_k_val", "batch_sizes", "redundancy_modes"]
    for traffic, k, batch, mode in itertools.product(*(config[axis] for axis in axes)):
        values = {"background_traffic": f"{traffic} shuffles", "ec_k_val": f"k={k}", "batch_sizes": f"batch {batch}"}
        told = [text for axis, text in values.items() if len(config[axis]) > 1]
        redundancy = {"coded": clusters.coded(k), "cheap": {"policy": "cheap"}}.get(mode)
        model = clusters.model(mode + (f" ({', '.join(told)})" if told else ""), {}, None, redundancy)
        model["instances"] = list(instances(config, mode, k, traffic == "clipper"))
        model["answer"] = {"when": "first"}
        # The original waits for a batch for ever; here a tenth of a second.
        model["batch"] = {"max_size": batch, "delay_ms": 100 if batch > 1 else 0}
        if mode == "coded":
            model["overhead"] = {of: CONSTANT[f"{of} {k}"] for of in ("encode", "decode")}
        if traffic not in (0, "clipper"):
            shuffles = clusters.SHUFFLES["shuffles"] | {"concurrent": traffic}
            model["faults"] = {"shuffles": shuffles}
        yield model


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        config = json.load(file)
    if config.get("queue_modes", ["single_queue"]) != ["single_queue"]:
        sys.exit(f"{sys.argv[1]}: queue_modes: found {config['queue_modes']}, expected [\"single_queue\"]")
    with open(sys.argv[2], "w") as file:
        json.dump({"models": list(models(config))}, file, indent=1)
    queries, trials = 20_000 if os.environ.get("QUICK") else config["num_queries"], config["num_trials"]
    print("--rates", ",".join(map(str, config["send_rates"])), "--queries", queries, "--seeds", trials)

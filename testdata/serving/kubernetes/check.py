"""Sees that manifests are valid, and that they fit each other. Usage: check.py FOLDER"""

import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

import kubernetes_validate
import yaml

VERSION = "1.31"
# Of other makers: Kubernetes has no schema of theirs.
FOREIGN = ("monitoring.coreos.com/", "kustomize.config.k8s.io/")

folder = Path(sys.argv[1])
kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
found = [
    thing for file in kustomization["resources"] for thing in yaml.safe_load_all((folder / file).read_text())
]
for thing in found:
    if not thing["apiVersion"].startswith(FOREIGN):
        kubernetes_validate.validate(thing, VERSION, strict=True)


def of(kind):
    return {thing["metadata"]["name"]: thing for thing in found if thing["kind"] == kind}


def selects(selector, thing):
    labels = thing["spec"]["template"]["metadata"]["labels"]
    return selector.items() <= labels.items()


deployments, services = of("Deployment"), of("Service")
config = json.loads((folder / "parm-serve.json").read_text())

# Each service, and each budget, has pods; each port of a service is one of theirs.
for name, service in services.items():
    chosen = [d for d in deployments.values() if selects(service["spec"]["selector"], d)]
    assert len(chosen) == 1, f"service {name} selects {len(chosen)} deployments, expected 1"
    container = chosen[0]["spec"]["template"]["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for port in service["spec"]["ports"]:
        target = port.get("targetPort", port["port"])
        assert target in ports or target in ports.values(), f"service {name}: no container has port {target}"
for name, budget in of("PodDisruptionBudget").items():
    selector = budget["spec"]["selector"]["matchLabels"]
    assert any(selects(selector, d) for d in deployments.values()), f"budget {name} selects nothing"
for name, monitor in of("ServiceMonitor").items():
    selector = monitor["spec"]["selector"]["matchLabels"]
    chosen = [s for s in services.values() if selector.items() <= s["metadata"]["labels"].items()]
    ports = {port["name"] for service in chosen for port in service["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports, f"monitor {name}: no such port"

# What parm-serve calls is there, one address for each pod; and so are the addresses that it listens at.
for model in config["models"]:
    for instance in model["instances"]:
        url = urlsplit(instance["remote"]["url"])
        service = services[url.hostname]
        assert service["spec"]["clusterIP"] == "None", f"{url.hostname} is not headless"
        assert url.port in [port["port"] for port in service["spec"]["ports"]], f"{url.hostname} has no port {url.port}"
pod = deployments["parm-serve"]["spec"]["template"]["spec"]
listened = {config[name].rpartition(":")[2] for name in ("http", "grpc", "admin")}
assert listened == {str(port["containerPort"]) for port in pod["containers"][0]["ports"]}
pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
assert config["drain_ms"] / 1000 + pause < pod["terminationGracePeriodSeconds"], "killed before it has answered"
generated = {map["name"] for map in kustomization["configMapGenerator"]}
assert {v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v} <= generated
print(f"check: {len(found)} manifests are valid for Kubernetes {VERSION}, and fit each other")

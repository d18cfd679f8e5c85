"""Holds docker-compose.yml and deploy/kubernetes to what no schema says. Called by scripts/check-deploy."""

import pathlib
import re
import sys

import yaml

faults = []
main = pathlib.Path("src/main.rs").read_text()


def is_command(word):
    variant = "".join(part.capitalize() for part in word.split("-"))
    return re.search(rf"^    {variant}[,(]", main, re.M)


def command(words):
    """The first word that is no option and no option's value."""
    words = list(words)
    while words and words[0].startswith("--"):
        words = words[2:]
    return words[0] if words else ""


def compose():
    document = yaml.safe_load(pathlib.Path("docker-compose.yml").read_text())
    services, configs = document["services"], document.get("configs", {})
    for key in document.keys() - {"name", "services", "volumes", "configs"}:
        faults.append(f"docker-compose.yml: unknown key {key}")
    for name, config in configs.items():
        if not pathlib.Path(config["file"]).is_file():
            faults.append(f"docker-compose.yml: config {name} is no file")
    for name, service in services.items():
        def fault(text):
            faults.append(f"docker-compose.yml: {name}: {text}")

        if ("image" in service) == ("build" in service):
            fault("has an image or is built, one of both")
        if "image" in service and not re.search(r":[0-9][^/]*$", service["image"]):
            fault("its image has no version")
        if "healthcheck" not in service and service.get("restart") != "no":
            fault("has no healthcheck")
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                fault(f"port {port} is open to the outside")
        for other, how in service.get("depends_on", {}).items():
            if other not in services:
                fault(f"depends on {other}, which is no service")
            elif how["condition"] == "service_healthy" and "healthcheck" not in services[other]:
                fault(f"waits for the health of {other}, which tells none")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if not source.startswith(".") and source not in document.get("volumes", {}):
                fault(f"volume {source} is not declared")
        for config in service.get("configs", []):
            if config["source"] not in configs:
                fault(f"config {config['source']} is not declared")
        if "build" in service:
            if not pathlib.Path(service["build"]["dockerfile"]).is_file():
                fault("its Dockerfile is no file")
            if not is_command(command(service["command"])):
                fault(f"{service['command']} is no command of the program")
            if not service.get("read_only") or service.get("cap_drop") != ["ALL"]:
                fault("may write its file system, or has capabilities")


def documents(path):
    return [d for d in yaml.safe_load_all(path.read_text()) if d]


def selects(selector, labels):
    return all(labels.get(key) == value for key, value in (selector or {}).get("matchLabels", selector or {}).items())


def kubernetes():
    base = pathlib.Path("deploy/kubernetes/base")
    everything = []
    namespace = documents(base / "kustomization.yaml")[0]["namespace"]
    for folder in [base, *sorted(pathlib.Path("deploy/kubernetes/components").iterdir())]:
        kustomization = documents(folder / "kustomization.yaml")[0]
        listed = set(kustomization["resources"])
        there = {p.name for p in folder.glob("*.yaml")} - {"kustomization.yaml"}
        for name in listed ^ there:
            faults.append(f"{folder}: {name} is listed and missing, or there and not listed")
        for name in listed & there:
            everything += [(folder / name, d) for d in documents(folder / name)]
            # What a component brings is in no other's namespace.
            if folder != base and any(d["metadata"].get("namespace") != namespace for d in documents(folder / name)):
                faults.append(f"{folder}: {name} is outside the namespace {namespace}")
        for generator in kustomization.get("configMapGenerator", []):
            for file in generator["files"]:
                if not (folder / file.split("=")[-1]).is_file():
                    faults.append(f"{folder}: {file} is missing")
            everything.append((folder, {"kind": "ConfigMap", "metadata": {"name": generator["name"]}}))
        for patch in kustomization.get("patches", []):
            target = patch["target"]
            if not any(d["kind"] == target["kind"] and d["metadata"]["name"] == target["name"] for _, d in everything):
                faults.append(f"{folder}: a patch targets {target}, which is not there")
        for image in kustomization.get("images", []):
            version = re.search(r'^version = "(.*)"', pathlib.Path("Cargo.toml").read_text(), re.M)[1]
            if image["newTag"] != version:
                faults.append(f"{folder}: the image is {image['newTag']}, the program {version}")
    named = {(d["kind"], d["metadata"]["name"]) for _, d in everything}
    pods = {d["metadata"]["name"]: d["spec"]["template"] for _, d in everything if d["kind"] == "Deployment"}
    if set(pods) != {"projector", "api"}:
        faults.append(f"kubernetes: the deployments are {set(pods)}")
    for name, template in pods.items():
        def fault(text):
            faults.append(f"kubernetes: {name}: {text}")

        spec, labels = template["spec"], template["metadata"]["labels"]
        container = spec["containers"][0]
        if not spec["securityContext"].get("runAsNonRoot") or spec.get("automountServiceAccountToken") is not False:
            fault("runs as root, or holds a token of the cluster")
        own = container["securityContext"]
        if not own.get("readOnlyRootFilesystem") or own.get("allowPrivilegeEscalation") is not False or own["capabilities"] != {"drop": ["ALL"]}:
            fault("may write its file system, gain rights, or has capabilities")
        if "livenessProbe" not in container or "limits" not in container["resources"]:
            fault("has no liveness probe, or no limits")
        if not is_command(command(container["args"])):
            fault(f"{container['args']} is no command of the program")
        if container.get("env") or container.get("envFrom"):
            fault("takes settings from the environment: secrets are files")
        if ("ServiceAccount", spec["serviceAccountName"]) not in named:
            fault("its service account is missing")
        ports = {port["name"] for port in container["ports"]}
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            if probe in container and container[probe]["httpGet"]["port"] not in ports:
                fault(f"{probe} asks a port that is not there")
        mounted, volumes = {m["name"] for m in container["volumeMounts"]}, {v["name"]: v for v in spec["volumes"]}
        if mounted != set(volumes) or not all(m["readOnly"] for m in container["volumeMounts"]):
            fault("its volumes and mounts differ, or may be written")
        for volume in volumes.values():
            if "configMap" in volume and ("ConfigMap", volume["configMap"]["name"]) not in named:
                fault(f"its {volume['configMap']} is missing")
            if "secret" in volume and volume["secret"]["defaultMode"] & 0o007:
                fault("others may read its secrets")
        if not any(d["kind"] == "PodDisruptionBudget" and selects(d["spec"]["selector"], labels) for _, d in everything):
            fault("has no disruption budget")
        policies = [d for _, d in everything if d["kind"] == "NetworkPolicy" and selects(d["spec"]["podSelector"], labels)]
        if len(policies) != 3:
            fault(f"has {len(policies)} network policies, wanted: nothing, names and metrics, its own")
        for policy in policies:
            for rule in policy["spec"].get("ingress", []):
                for port in rule["ports"]:
                    if isinstance(port["port"], str) and port["port"] not in ports:
                        fault(f"a policy opens {port['port']}, which is no port of it")
    for path, d in everything:
        if d["kind"] == "Service" and not any(selects(d["spec"]["selector"], t["metadata"]["labels"]) for t in pods.values()):
            faults.append(f"{path}: the service selects nothing")
        if d["kind"] in ("HorizontalPodAutoscaler", "ScaledObject") and d["spec"]["scaleTargetRef"]["name"] not in pods:
            faults.append(f"{path}: scales what is not there")
        if d["kind"] == "Secret":
            faults.append(f"{path}: a secret is in the tree")


compose()
kubernetes()
for text in faults:
    print(text, file=sys.stderr)
sys.exit(bool(faults))

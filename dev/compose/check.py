"""Reads docker-compose.yml as `docker compose config --format json` shows it, and says what is wrong with it."""

import json
import pathlib
import re
import sys

OURS = [
    "logistic-package-api", "walpost", "migrate", "walpost-init", "logistic-package-api-bot", "logistic-package-api-facade",
]
ONCE = ["migrate", "roles", "walpost-init", "topics"]
# The contract: what is reached where from outside. Other programs are configured with these names and numbers.
PORTS = {
    "logistic-package-api": [8082, 8080, 8000, 9100], "walpost": [9101], "logistic-package-api-facade": [9103], "postgres": [5432], "kafka": [9094],
    "kafka-ui": [9001], "prometheus": [9090], "grafana": [3000], "jaeger": [16686, 4317], "redis": [6379],
    "logistic-package-api-bot": [9102],
}
# Needs a token that is the operator's own.
PROFILED = ["logistic-package-api-bot"]
ALIASES = {"walpost": "logistic-package-api-retranslator"}
TAG = re.compile(r".+:v?\d+\.\d+(\.\d+)?(-[a-z0-9.]+)?(@sha256:[0-9a-f]{64})?$")

faults = []


def check(holds, what):
    if not holds:
        faults.append(what)


def check_contract(services):
    for name in [*PORTS, *ONCE]:
        check(name in services, f"{name}: is missing")
    for name, ports in PORTS.items():
        published = {int(port["published"]): port for port in services.get(name, {}).get("ports", [])}
        for port in ports:
            check(published.get(port, {}).get("target") == port, f"{name}: {port} is not published as {port}")
    for name, alias in ALIASES.items():
        networks = services.get(name, {}).get("networks", {})
        check(any(alias in (network or {}).get("aliases", []) for network in networks.values()),
              f"{name}: is not known as {alias}")
    for name in PROFILED:
        check(services.get(name, {}).get("profiles"), f"{name}: belongs behind a profile")


def check_service(name, service, built):
    image = service.get("image", "")
    if name in OURS:
        check(image in built, f"{name}: nothing builds its image {image}")
        check(service.get("read_only"), f"{name}: can write to its root")
        check(service.get("cap_drop") == ["ALL"], f"{name}: keeps capabilities")
    else:
        check(TAG.match(image), f"{name}: {image} is not pinned to a version")
    check("no-new-privileges:true" in service.get("security_opt", []), f"{name}: may gain privileges")
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    for limit in ("cpus", "memory", "pids"):
        check(limits.get(limit), f"{name}: has no limit of {limit}")
    check(service.get("logging", {}).get("options", {}).get("max-size"), f"{name}: its log grows without bound")
    for port in service.get("ports", []):
        check(port.get("host_ip") == "127.0.0.1", f"{name}: port {port['target']} is open to the network")
    if name in ONCE:
        check(service.get("restart") == "no", f"{name}: runs once, and would be restarted")
        return
    check(service.get("restart") == "unless-stopped", f"{name}: is not restarted")
    # Those of ours are in the image: HEALTHCHECK.
    check(name in OURS or service.get("healthcheck", {}).get("test"), f"{name}: has no health check")


def check_order(services):
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONCE else "service_healthy"
            check(how["condition"] == wanted, f"{name}: waits for {other} by {how['condition']}, not {wanted}")
    for name in ONCE:
        # Else `up --wait` takes its end for a failure.
        awaited = any(name in service.get("depends_on", {}) for service in services.values())
        check(awaited, f"{name}: nothing waits for it")


def check_files(model):
    for kind in ("configs", "secrets"):
        for name, entry in model.get(kind, {}).items():
            file = pathlib.Path(entry["file"])
            check(file.is_file() and file.stat().st_size, f"{kind}: {name}: no file {file}, or an empty one")
            used = [use["source"] for service in model["services"].values() for use in service.get(kind) or []]
            check(name in used, f"{kind}: {name} is used by no service")
    for name, service in model["services"].items():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                source = pathlib.Path(volume["source"])
                check(source.is_dir() and any(source.iterdir()), f"{name}: no folder {source}, or an empty one")
                check(volume.get("read_only"), f"{name}: may write to {source}")


def check_dockerfile(text, toolchain):
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", text, re.MULTILINE)
    own = {stage for _, stage in stages}
    for image, stage in stages:
        image = re.sub(r"\$\{(\w+)\}", lambda match: arguments.get(match[1], ""), image)
        pinned = re.search(r":\d+\.\d+\.\d+-\w+$|-\d{8}-slim$", image)
        check(image in own or pinned, f"Dockerfile: {stage} is from {image}, which is not pinned")
    channel = f'channel = "{arguments.get("RUST_VERSION")}"'
    check(channel in toolchain, "Dockerfile: another Rust than rust-toolchain.toml")
    users = re.findall(r"^USER (\S+)$", text, re.MULTILINE)
    numbers = all(re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) for user in users)
    check(users and numbers, "Dockerfile: USER is not a number, or root")
    check(len(re.findall(r"^HEALTHCHECK ", text, re.MULTILINE)) == 4, "Dockerfile: a program has no HEALTHCHECK")
    for source in re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", text, re.MULTILINE):
        for file in source.split():
            check(pathlib.Path(file).exists(), f"Dockerfile: no {file} to copy")


def main():
    model = json.load(sys.stdin)
    services = model["services"]
    built = {service["image"] for service in services.values() if "build" in service}
    check_contract(services)
    for name, service in services.items():
        check_service(name, service, built)
    check_order(services)
    check_files(model)
    dockerfile, toolchain = pathlib.Path("deploy/docker/Dockerfile"), pathlib.Path("rust-toolchain.toml")
    check_dockerfile(dockerfile.read_text(), toolchain.read_text())
    if faults:
        sys.exit("\n".join(f"check: {fault}" for fault in faults))
    print(f"{len(services)} services, their images, files, ports, limits and order, and the Dockerfile: as they should be")


main()

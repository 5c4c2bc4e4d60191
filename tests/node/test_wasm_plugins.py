"""WasmPlugins in the whole product: a module answers and adds to real requests, and where there is none no
request passes that must meet it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.node.conftest import running_mesh
from tests.node.manifests import MESH
from tests.node.mesh import RUN, RunningMesh, sluice, until
from tests.wasm_module import adds, adds_configuration, answers, padded, refuses_its_configuration

WEB = "http://web.shop.svc.cluster.local/"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("modules")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[RunningMesh]:
    options = ("--wasm-folder", str(folder), "--wasm-allow", "10.0.0.0/8")
    yield from running_mesh(tmp_path_factory, MESH, options=options)


def plugin(file: Path, *more: str, name: str = "touch", app: str = "web") -> str:
    lines = "\n".join(f"  {line}" for line in more)
    return f"""
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: {app}}}}}
  url: file://{file}
{lines}
"""


def written(folder: Path, name: str, module: bytes) -> Path:
    path = folder / name
    path.write_bytes(module)
    return path


def header(mesh: RunningMesh, url: str, name: str, pod: str = "shop/client") -> str | None:
    status, said = mesh.get(pod, url)
    assert status == 200 and isinstance(said, dict), (status, said)
    found: str | None = said["headers"].get(name)
    return found


def problems(mesh: RunningMesh) -> list[str]:
    return [f"{found['object']} {found['field']}" for found in mesh.status()["problems"]]


def said(mesh: RunningMesh) -> str:
    return " ".join(found["message"] for found in mesh.status()["problems"])


DENY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules: [{to: [{operation: {methods: [GET]}}]}]
"""

EDGE = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: sluice
  listeners: [{name: http, port: 8092, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: edge, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  rules: [{backendRefs: [{name: web-v2, port: 80}]}]
"""

ASKER = """
import http.client, json, sys
connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=5)
connection.connect()
first = connection.sock
for line in sys.stdin:
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        print(json.dumps([0, "ended"]), flush=True)
        break
    assert connection.sock in (first, None), "it is one connection"
    said = json.loads(body)["headers"].get("x-config") if answer.status == 200 else body.decode()
    print(json.dumps([answer.status, said]), flush=True)
"""


SERVER = """
import functools, http.server, sys, threading
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("", 0), handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
"""


@contextmanager
def kept_alive(mesh: RunningMesh, url: str, pod: str = "shop/client") -> Iterator[Callable[[], list[Any]]]:
    """A connection of a pod: each call is a request on it."""
    parts = urlsplit(url)
    where = (str(parts.hostname), str(parts.port or 80))
    command = [*RUN, "exec", "--name", mesh.name, pod, "--", sys.executable, "-c", ASKER, *where]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asker:
        assert asker.stdin is not None and asker.stdout is not None
        told, asked = asker.stdout, asker.stdin

        def ask() -> list[Any]:
            asked.write("\n")
            asked.flush()
            found: list[Any] = json.loads(told.readline())
            return found

        yield ask
        asked.close()


def settled(mesh: RunningMesh) -> None:
    """Its module is there, and served."""
    until(lambda: not said(mesh), "the module comes")
    mesh.run("status", "--wait")


def filters(mesh: RunningMesh) -> dict[str, str]:
    """What stands in the place of each plugin at a pod: name -> type."""
    text = mesh.run("proxy-config", "ecds", "shop/web-v1")
    dump = json.loads(mesh.run("pc", "ec", "shop/web-v1", "-o", "json"))
    rows = dict(line.split() for line in text.splitlines()[1:])
    assert rows.keys() == {entry["ecds_filter"]["name"] for entry in dump["ecds_filters"]}
    return {name.rpartition("/")[2]: kind.rpartition(".")[2] for name, kind in rows.items()}


def test_a_module_touches_what_a_pod_gets(mesh: RunningMesh, folder: Path) -> None:
    url = f"http://{mesh.pod('shop/web-v1')['ip']}:8080/"
    assert header(mesh, url, "x-config") is None
    path = written(folder, "configuration.wasm", adds_configuration("x-config"))
    with kept_alive(mesh, url) as ask:
        assert ask() == [200, None]
        mesh.apply(plugin(path, "match: [{mode: SERVER}]", "pluginConfig: {a: 1}"))
        assert ask() == [0, "ended"], "nobody goes past it (rule 9)"
    settled(mesh)
    assert until(lambda: header(mesh, url, "x-config"), "it is served") == '{"a":1}'
    assert filters(mesh) == {"shop.touch": "Wasm"}
    # A new configuration and a new module bind a connection that is there (rule 6).
    with kept_alive(mesh, url) as ask:
        assert ask() == [200, '{"a":1}']
        mesh.apply(plugin(path, "match: [{mode: SERVER}]", "pluginConfig: {a: 2}"))
        until(lambda: ask() == [200, '{"a":2}'], "the new configuration is served")
        other = written(folder, "value.wasm", adds("x-config", "another module"))
        mesh.apply(plugin(other, "match: [{mode: SERVER}]"))
        until(lambda: ask() == [200, "another module"], "the new module is served")

        # One that Envoy refuses stays out, with its words; what is there goes on.
        broken = written(folder, "broken.wasm", refuses_its_configuration())
        mesh.apply(plugin(broken, "match: [{mode: SERVER}]"))
        until(lambda: "Envoy refuses it" in said(mesh), "Envoy was asked")
        assert problems(mesh) == ["WasmPlugin shop/touch spec.url"]
        assert "Unable to create Wasm plugin" in said(mesh)
        assert ask() == [200, "another module"]

        mesh.delete(plugin(broken))
        assert ask()[0] == 200, "who goes on on the old connection is not refused"
    assert header(mesh, url, "x-config") is None
    assert mesh.explain("shop/client", url.removeprefix("http://").rstrip("/"))["path"] == "kernel"


def test_without_its_module_requests_are_refused_unless_it_may_fail_open(
    mesh: RunningMesh, folder: Path
) -> None:
    url = f"http://{mesh.pod('shop/web-v1')['ip']}:8080/"
    late = folder / "late.wasm"
    mesh.apply(plugin(late, "match: [{mode: SERVER}]", "failStrategy: FAIL_OPEN"))
    until(lambda: "No such file" in said(mesh), "it was looked for")
    assert "until then requests pass without it" in said(mesh)
    assert header(mesh, url, "x-late") is None
    assert filters(mesh) == {"shop.touch": "RBAC"}, "one that lets all pass"
    mesh.apply(plugin(late, "match: [{mode: SERVER}]"))
    assert mesh.get("shop/client", url)[0] == 503
    assert filters(mesh) == {"shop.touch": "Lua"}, "one that answers"
    assert "until then requests that must meet it get 503" in said(mesh)
    written(folder, "late.wasm", adds("x-late", "yes"))
    until(lambda: mesh.get("shop/client", url)[0] == 200, "it is asked for again")
    assert header(mesh, url, "x-late") == "yes"
    mesh.delete(plugin(late))

    # Envoy refuses the only version there is.
    broken = plugin(written(folder, "broken.wasm", refuses_its_configuration()), name="broken")
    mesh.apply(broken)
    assert mesh.get("shop/client", url)[0] == 503
    until(lambda: "Envoy refuses it" in said(mesh), "Envoy was asked")
    assert mesh.get("shop/client", url)[0] == 503
    mesh.delete(broken)
    assert mesh.get("shop/client", url)[0] == 200


def test_a_module_stands_where_its_phase_says(mesh: RunningMesh, folder: Path) -> None:
    url = f"http://{mesh.pod('shop/web-v1')['ip']}:8080/"
    path = written(folder, "answer.wasm", answers(202))
    second = written(folder, "second.wasm", answers(203))
    mesh.apply(DENY.replace("GET", "POST"))
    with kept_alive(mesh, url) as ask:
        assert ask() == [200, None]
        mesh.apply(DENY, plugin(path, "match: [{mode: SERVER}]", "phase: AUTHZ"))
        assert ask() == [0, "ended"], "it was of another class"
    until(lambda: mesh.get("shop/client", url)[0] == 202, "it answers before policies do")
    first = plugin(second, "match: [{mode: SERVER}]", "phase: AUTHZ", "priority: 1", name="zz")
    mesh.apply(first)
    until(lambda: mesh.get("shop/client", url)[0] == 203, "the higher priority comes first")
    mesh.delete(first)
    mesh.apply(plugin(path, "match: [{mode: SERVER}]", "phase: STATS"))
    until(lambda: mesh.get("shop/client", url)[0] == 403, "policies answer first")
    mesh.delete(DENY, plugin(path))
    assert mesh.get("shop/client", url)[0] == 200


def test_a_module_stands_at_a_gateway(mesh: RunningMesh, folder: Path) -> None:
    mesh.apply(EDGE)
    ways = until(lambda: {way["port"]: way["url"] for way in mesh.status()["gateways"]}, "no way in")
    mesh.run("status", "--wait")

    def asked() -> tuple[int, Any]:
        with urllib.request.urlopen(f"{ways[8092]}/", timeout=10) as answer:
            return answer.status, json.load(answer)["headers"].get("x-edge")

    assert asked() == (200, None)
    path = written(folder, "edge.wasm", adds("x-edge", "yes"))
    applied = plugin(path, "failStrategy: FAIL_OPEN", "match: [{mode: CLIENT, ports: [{number: 8092}]}]")
    applied = applied.replace("app: web", "gateway.networking.k8s.io/gateway-name: edge")
    mesh.apply(applied)
    until(lambda: asked() == (200, "yes"), "it is served")
    mesh.delete(applied)
    until(lambda: asked() == (200, None), "it is gone")
    mesh.delete(EDGE)


@contextmanager
def serving(mesh: RunningMesh, folder: Path) -> Iterator[str]:
    """The URL of a server of the folder's files, in a pod."""
    code = (sys.executable, "-c", SERVER, str(folder))
    command = [*RUN, "exec", "--name", mesh.name, "shop/other", "--", *code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        yield f"http://{mesh.pod('shop/other')['ip']}:{int(server.stdout.readline())}"
        server.stdin.close()


def test_a_module_of_what_a_pod_calls_survives_its_server_and_the_control_plane(
    mesh: RunningMesh, folder: Path
) -> None:
    module = padded(adds("x-large", "yes"), 5 << 20)
    path = written(folder, "large.wasm", module)
    more = f"sha256: {sha256(module).hexdigest()}", "match: [{mode: CLIENT, ports: [{number: 80}]}]"
    applied = plugin(path, *more, app="client")
    with serving(mesh, folder) as url:
        applied = applied.replace(f"file://{folder}", url)
        mesh.apply(applied)
        settled(mesh)
        until(lambda: mesh.get("shop/client", WEB)[0] == 200, "it is served")
    assert header(mesh, WEB, "x-large") == "yes"
    assert "envoy" not in mesh.processes("shop/web-v1"), "only its callers need one"
    assert header(mesh, WEB, "x-large", "shop/other") is None
    (before,) = mesh.pids("xds", "--wasm-folder")
    os.kill(before, signal.SIGKILL)
    until(lambda: mesh.pids("xds", "--wasm-folder") not in ([], [before]), "it is started again")
    until(lambda: sluice("status", "--name", mesh.name, "--wait").returncode == 0, "it is ready")
    assert header(mesh, WEB, "x-large") == "yes"
    assert not mesh.status()["problems"]
    mesh.delete(applied)
    assert header(mesh, WEB, "x-large") is None

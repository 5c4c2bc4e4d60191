"""Spans in a running mesh (rule 26): what a collector is told by Envoys and by the agent about one request
that goes through three services, the last hop without any Envoy; the same of a collector of OpenTelemetry's
and of Datadog's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.node.mesh import RunningMesh, sluice, until

pytestmark = pytest.mark.root

EXAMPLE = Path(__file__).parents[2] / "examples/trace"
MESH = (EXAMPLE / "mesh.yaml").read_text().replace("PYTHON", sys.executable).replace("HERE", str(EXAMPLE))
#: What is different where Datadog takes the spans.
DATADOGS = {
    "opentelemetry: {service: collector.shop.svc.cluster.local, port: 4317}": (
        "datadog: {service: collector.shop.svc.cluster.local, port: 8126}"
    ),
    "{name: grpc-otlp, port: 4317}": "{name: http-datadog, port: 8126}",
    f"{EXAMPLE}/collector.py": str(EXAMPLE.parents[1] / "tests/trace_agent.py"),
}

Span = dict[str, Any]

CLOSED = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: shop}
spec:
  podSelector: {matchLabels: {app: back}}
  ingress: [{from: [{podSelector: {matchLabels: {app: front}}}]}]
"""

UNTOLD = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: everything, namespace: shop}
spec: {tracing: [{disableSpanReporting: true}]}
"""


@pytest.fixture(scope="module", params=["OpenTelemetry", "Datadog"])
def manifest(request: pytest.FixtureRequest) -> str:
    found = MESH
    for old, new in (DATADOGS if request.param == "Datadog" else {}).items():
        assert old in found
        found = found.replace(old, new)
    return found


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, manifest: str) -> Iterator[RunningMesh]:
    running = RunningMesh()
    try:
        running.up(manifest, folder=tmp_path_factory.mktemp("mesh"))
        yield running
    finally:
        sluice("down", "--name", running.name, "--purge", timeout=60)
    assert running.residue() == []


def collected(mesh: RunningMesh) -> list[Span]:
    """All spans that came."""
    status, found = mesh.get("shop/collector", "http://localhost:8080/spans")
    assert status == 200 and isinstance(found, list)
    return found


def by_kernel(spans: list[Span], service: str) -> list[Span]:
    kernel = [span for span in spans if span["attributes"].get("sluice.path") == "kernel"]
    return [span for span in kernel if span["attributes"].get("sluice.service") == service]


def is_reused(span: Span) -> bool:
    return bool(span["attributes"]["sluice.connection.reused"].lower() == "true")


def told(mesh: RunningMesh, known: list[Span], count: int) -> list[Span]:
    """The next spans, when there are so many."""
    ids = {span["id"] for span in known}

    def new() -> list[Span]:
        return [span for span in collected(mesh) if span["id"] not in ids]

    return until(lambda: found if len(found := new()) >= count else [], "spans come", seconds=30)


def test_a_request_through_three_services_is_one_trace_with_the_kernels_part_in_it(mesh: RunningMesh) -> None:
    assert mesh.get("shop/client", "http://front/") == (200, "front > middle > back")
    spans = told(mesh, [], 5)
    assert len(spans) == 5, "\n".join(map(str, spans))
    (to_front,), (to_middle,), (to_back,) = (
        by_kernel(spans, f"shop/{name}") for name in ("front", "middle", "back")
    )
    first, second = sorted(
        (span for span in spans if "sluice.path" not in span["attributes"]),
        key=lambda span: bool(span["parent"]),
    )
    assert (first["service"], first["parent"]) == ("client.shop", "")
    assert (second["service"], second["parent"]) == ("front.shop", first["id"])
    assert (to_front["service"], to_front["parent"]) == ("client.shop", first["id"])
    assert (to_middle["service"], to_middle["parent"]) == ("front.shop", second["id"])
    assert {span["trace"] for span in (second, to_front, to_middle)} == {first["trace"]}
    assert first["start"] <= to_front["start"] <= to_front["end"] <= first["end"]
    # Datadog's spans have a service, and no resource beside it.
    assert to_front.get("resource", {}).items() <= first.get("resource", {}).items()

    assert (to_back["service"], to_back["parent"], to_back["links"]) == ("middle.shop", "", [])
    assert to_back["trace"] != first["trace"]
    # It begins while the request is answered; who closes it may do so a moment after the answer.
    assert second["start"] < to_back["start"] < min(to_back["end"], second["end"])
    said = to_back["attributes"]
    assert (said["sluice.verdict"], said["sluice.destination"]) == ("allowed", "shop/back")
    assert (said["server.address"], said["server.port"]) == ("back.shop.svc.cluster.local", "80")
    assert said["network.peer.port"] == "8080"


def test_the_examples_view_shows_who_waited_for_whom(mesh: RunningMesh, tmp_path: Path) -> None:
    spans = until(lambda: len(found := collected(mesh)) >= 5 and found, "spans come", seconds=30)
    picture = tmp_path / "trace.svg"
    view = (sys.executable, str(EXAMPLE / "view.py"), str(picture))
    shown = subprocess.run(view, input=json.dumps(spans), capture_output=True, text=True, check=True).stdout
    first, second = (part.splitlines() for part in shown.strip().split("\n\n")[:2])
    assert [line.split()[0] for line in first[:2]] == ["client.shop"] * 2
    assert [len(line) - len(line.lstrip()) for line in first] == [0, 2, 2, 4]
    assert "VirtualService shop/front http[0]" in first[0] and "kernel" in first[1]
    assert len(second) == 1 and second[0].startswith("middle.shop  TCP back.shop.svc.cluster.local:80")
    bars = ElementTree.parse(picture).getroot().iter("{http://www.w3.org/2000/svg}rect")
    assert sum(1 for _ in bars) == 1 + len(spans)


def test_each_request_on_a_pooled_connection_has_its_span_and_a_link_to_the_one_that_opened_it(
    mesh: RunningMesh,
) -> None:
    known = collected(mesh)
    # One connection of curl's. Envoy may open another for the next request if the first is not free yet.
    assert mesh.get("shop/client", *["http://front/"] * 4)[0] == 200
    new = by_kernel(told(mesh, known, 20), "shop/front")
    assert len(new) == 4
    span = next(span for span in new if is_reused(span))
    (link,) = span["links"]
    (opened,) = (s for s in by_kernel(collected(mesh), "shop/front") if [s["trace"], s["id"]] == link)
    assert not is_reused(opened)
    port = "network.local.port"
    assert opened["attributes"][port] == span["attributes"][port] and opened["trace"] != span["trace"]


def test_what_the_kernel_refuses_is_told_with_the_policy_that_did(mesh: RunningMesh) -> None:
    known = collected(mesh)
    mesh.apply(CLOSED)
    try:
        assert mesh.get("shop/client", "http://back/")[0] == 0
        for span in by_kernel(told(mesh, known, 2), "shop/back"):  # curl tries both families
            assert span["error"] and span["parent"] == "" and span["attributes"]["sluice.verdict"] == "denied"
            assert "NetworkPolicy shop/closed" in span["attributes"]["sluice.policy"]
            assert span["attributes"]["error.type"] == "POLICY_INGRESS"
    finally:
        mesh.delete(CLOSED)


def test_nothing_is_told_once_no_telemetry_asks_for_it(mesh: RunningMesh, manifest: str) -> None:
    mesh.apply(UNTOLD)
    known = collected(mesh)
    assert mesh.get("shop/client", "http://back/") == (200, "back")
    assert mesh.get("shop/client", "http://front/")[0] == 200
    mesh.apply(manifest)
    assert mesh.get("shop/client", "http://back/") == (200, "back")
    (span,) = told(mesh, known, 1)
    assert span["name"] == "TCP back.shop.svc.cluster.local:80"

"""The control plane's own work: from a saved file to the node's acknowledgement, one trace."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.xds.manifests import SHOP, policy, write_sandboxes
from tests.xds.render.collector import OtlpCollector, Span
from tests.xds.test_process import ControlPlane, Node
from xds.tracing import ENDPOINTS, WAITING, Traced, seen
from xds.work import UNSEEN


@pytest.fixture
def collector() -> Iterator[OtlpCollector]:
    collector = OtlpCollector()
    yield collector
    collector.stop()


@pytest.fixture
async def plane(
    tmp_path: Path, collector: OtlpCollector, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ControlPlane]:
    monkeypatch.setenv("SLUICE_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.port}")
    plane = ControlPlane(tmp_path)
    plane.manifests.mkdir()
    (plane.manifests / "shop.yaml").write_text(SHOP)
    write_sandboxes(tmp_path / "s")
    await plane.start()
    yield plane
    await plane.kill()


async def test_a_saved_file_is_a_trace_from_the_event_to_the_nodes_acknowledgement(
    plane: ControlPlane, collector: OtlpCollector
) -> None:
    node = Node(plane.folder)
    await node.follow(until=lambda: node.generation == 1)
    following = asyncio.create_task(node.follow(until=lambda: node.generation == 2))
    (plane.manifests / "p.yaml").write_text(policy("p"))
    await following
    spans = await asyncio.to_thread(collector.take, 6)
    (root,) = (span for span in spans if not span.parent)
    assert root.name == "generation 2" and root.tags["sluice.objects"] == "NetworkPolicy shop/p"
    assert root.resource["service.name"] == "sluice-control-plane" and root.resource["sluice.mesh"] == "test"
    children = [span for span in spans if span.parent == root.id]
    assert [span.name for span in children] == ["read", "assemble", "compile local", "publish", "apply local"]
    assert {span.trace for span in spans} == {root.trace}
    assert f"trace {root.trace}" in (plane.folder / "log").read_text()


def test_each_node_ends_its_part_and_one_that_never_does_is_named(collector: OtlpCollector) -> None:
    work = Traced("test", f"http://127.0.0.1:{collector.port}", "x")
    work.begin(1)
    work.published(1, f"{7:032x}", "a change", ("far", "near"))
    work.published(2, f"{8:032x}", "another", ("near",))
    work.applied("near", 2)
    found: list[Span] = collector.take(3)
    assert sorted(span.name for span in found) == ["apply near", "apply near", "generation 2"]
    for number in range(3, 3 + WAITING):
        work.published(number, f"{9:032x}", "more", ("far",))
    (given_up,) = collector.take(1)
    assert given_up.name == "generation 1" and "sluice.unacknowledged" in given_up.tags


def test_a_collector_may_listen_on_a_unix_socket(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/otlp.sock"
    collector = OtlpCollector(address)
    work = seen("test", {"SLUICE_OTLP_ENDPOINT": address})
    work.begin(1)
    work.published(1, f"{7:032x}", "a change", ("near",))
    work.applied("near", 1)
    assert {span.name for span in collector.take(2)} == {"generation 1", "apply near"}
    collector.stop()


def test_without_an_endpoint_nobody_looks_and_nothing_of_opentelemetry_is_loaded() -> None:
    assert seen("test", {}) is UNSEEN
    bare = {name: value for name, value in os.environ.items() if name not in ENDPOINTS}
    code = "import xds.__main__ as m, sys; m.seen('test'); sys.exit('opentelemetry' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=bare)


def test_another_protocol_than_grpc_is_refused_by_name() -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    with pytest.raises(ValueError, match="OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf is not supported"):
        seen("test", environment)

"""The whole compiler on small meshes: `<case>/in.yaml` -> `node.yaml` (the kernel's tables) and `envoy.yaml`
(each pod's resources), readable, and the latter accepted by the real Envoy. `make golden` writes them anew.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.model import HttpMatch, ObjectRef, WorkloadName
from mesh.node import readable as readable_tables
from mesh.proxy import HttpRule, L7Class, ProxyView
from sluice.offline import NODE, Manifests
from tests.xds.render.standalone import validate
from xds.documents import parse
from xds.render import readable, render
from xds.snapshot import NodeSnapshot

HERE = Path(__file__).parent
CASES = sorted(path.parent.name for path in HERE.glob("*/in.yaml"))


@cache
def compiled(case: str) -> NodeSnapshot:
    documents = parse((HERE / case / "in.yaml").read_text(), case)
    mesh, _ = Manifests({found.ref: found for found in documents.objects}).mesh()
    return NodeSnapshot(mesh, NODE, default=True)


def tables(snapshot: NodeSnapshot) -> dict[str, Any]:
    """The node's records, as plain data."""
    plain: dict[str, Any] = json.loads(json.dumps(readable_tables(snapshot.node.state)))
    return plain


def compare(path: Path, content: Any, golden: bool) -> None:
    text = yaml.safe_dump(content, sort_keys=False, width=110)
    if golden:
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize("case", CASES)
def test_a_mesh_becomes_the_tables_in_its_golden_file(case: str, golden: bool) -> None:
    compare(HERE / case / "node.yaml", tables(compiled(case)), golden)


@pytest.mark.parametrize("case", CASES)
def test_a_mesh_becomes_the_envoy_resources_in_its_golden_file(case: str, golden: bool) -> None:
    pods = {pod: readable(rendered) for pod, rendered in sorted(compiled(case).rendered.items())}
    compare(HERE / case / "envoy.yaml", pods, golden)


@pytest.mark.parametrize("case", CASES)
def test_the_real_envoy_takes_every_pods_resources(case: str, tmp_path: Path) -> None:
    for rendered in compiled(case).rendered.values():
        assert validate(rendered, tmp_path) == ""


def test_envoys_are_for_the_pods_that_a_rule_above_l4_concerns() -> None:
    """The kernel needs none for an L4 policy; ingress rules concern the callee, routes every caller."""
    needing = {case: sorted(compiled(case).rendered) for case in CASES}
    everyone = ["shop/api-v1", "shop/api-v2", "shop/client"]
    assert needing == {
        "l4-policy": [],
        "ingress-http-policy": ["shop/api-v1", "shop/api-v2"],
        "egress-http-policy": ["shop/client"],
        "jwt": ["shop/api"],
        "gateways": ["edge/gate"],
        "claims": ["edge/gate"],
        "virtual-service": ["shop/client", "shop/web-v1", "shop/web-v2"],
        "traffic-policy": ["shop/client"],
        "rate-limit": ["shop/web"],
        "envoy-filter": ["shop/client", "shop/web"],
        "wasm-plugin": ["shop/client", "shop/web"],
        "service-entry": ["shop/client"],
        "route-weights": everyone,
        "route-matches-and-filters": everyone,
        "route-with-egress-policy": everyone,
        "tracing": ["shop/api"],
        "locality-failover": ["shop/client", "shop/db-1", "shop/db-3", "shop/stranger"],
        "locality-in-the-kernel": [],
        "logs-and-metrics": ["shop/api"],
        "mutual-tls": ["shop/api", "shop/db", "shop/web"],
        "sidecar-bind": ["shop/web"],
        "sidecar-ingress": ["shop/web"],
    }


def test_the_real_envoy_would_say_if_it_did_not_take_them(tmp_path: Path) -> None:
    rule = HttpRule(ObjectRef("CiliumNetworkPolicy", "shop", "broken"), "ingress[0]", (HttpMatch(path="("),))
    broken = ProxyView(WorkloadName("shop", "api"), ingress=(L7Class(256, "ingress", (rule,)),))
    assert "missing )" in validate(render(broken), tmp_path)

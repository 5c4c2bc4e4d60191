"""docs/fields.md is generated: the fields that policies, routes and gateways may hold."""

from __future__ import annotations

from pathlib import Path

import yaml

from istio_integration import MISSING
from tests.docs.fields import table
from xds.dialects import DIALECTS, read

ROOT = Path(__file__).parents[2]
SAMPLES = ("tests/mesh/dialects/valid.yaml", "tests/istio_integration/valid.yaml")
KINDS = (
    "NetworkPolicy",
    "CiliumNetworkPolicy",
    "CiliumClusterwideNetworkPolicy",
    "CiliumCIDRGroup",
    "ClusterNetworkPolicy",
    "AdminNetworkPolicy",
    "BaselineAdminNetworkPolicy",
    "AuthorizationPolicy",
    "PeerAuthentication",
    "RequestAuthentication",
    "ConfigMap",
    "Telemetry",
    "ProxyConfig",
    "VirtualService",
    "DestinationRule",
    "ServiceEntry",
    "WorkloadEntry",
    "WorkloadGroup",
    "Sidecar",
    "GatewayClass",
    "Gateway",
    "HTTPRoute",
    "GRPCRoute",
    "TCPRoute",
    "TLSRoute",
    "UDPRoute",
    "ReferenceGrant",
    "BackendTLSPolicy",
    "RateLimit",
    "EnvoyFilter",
    "WasmPlugin",
    "Secret",
)
BEGIN, END = "<!-- fields: generated, `make docs` -->\n", "<!-- end of fields -->\n"


def samples() -> list[object]:
    found = [d for path in SAMPLES for d in yaml.safe_load_all((ROOT / path).read_text())]
    return [document for document in found if document["kind"] in KINDS]


def test_the_samples_are_valid() -> None:
    for document in samples():
        assert read(document).valid, read(document).problems


def test_the_page_lists_every_field_that_is_enforced_or_refused(golden: bool) -> None:
    path = ROOT / "docs" / "fields.md"
    text = path.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = [f"| {kind} | - | - | the kind: {why} |" for kind, why in sorted(MISSING.items())]
    wanted = "\n".join([*table(samples(), DIALECTS), *rows]) + "\n"
    if golden:
        path.write_text(before + BEGIN + wanted + END + after)
    assert path.read_text().partition(BEGIN)[2].partition(END)[0] == wanted

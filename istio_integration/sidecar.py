"""Sidecar of networking.istio.io, v1, v1beta1 and v1alpha3 (istio/api, sidecar.proto).

The validation is Istio's own, and what is about ports at which a sidecar would listen is refused by name. One
that cannot be read has no effect but its REGISTRY_ONLY. This file knows nothing of who is told of which
hosts.
"""

from __future__ import annotations

from istio_integration.endpoint import is_host
from istio_integration.outbound import outbound_mode
from mesh.dialects.reading import OBJECT, Fields, Reader, shown
from mesh.dialects.syntax import created, is_label, labels, port, printable
from mesh.model import Callers, Imports, ObjectRef, OutboundMode, Sidecar

SPEC = Fields(
    ("workloadSelector", "egress", "outboundTrafficPolicy"),
    refused=("ingress", "inboundConnectionPool"),
    why="is about ports at which a sidecar listens for its workload; here a workload listens itself",
)
WORKLOADS = Fields(("labels",))
EGRESS = Fields(
    ("hosts", "port"),
    refused=("bind", "captureMode"),
    why="is about listeners that capture traffic; here the kernel steers what a rule is for",
)
PORT = Fields(("number", "name", "protocol"))
OUTBOUND = Fields(
    ("mode",), refused=("egressProxy",), why="is not supported yet: route to a gateway by a VirtualService"
)


def read_sidecar(root: Reader, ref: ObjectRef) -> tuple[Sidecar, ...]:
    """Without egress all hosts are meant. What cannot be read leaves hosts out, so that the REGISTRY_ONLY of
    a Sidecar that is no good can stand (rule 18)."""
    root.fields(OBJECT)
    spec = root.at("spec").fields(SPEC)
    chosen = spec.at("workloadSelector").fields(WORKLOADS)
    own = labels(chosen.at("labels"))
    outbound = _outbound(spec.at("outboundTrafficPolicy"))
    egress = _egress(spec.at("egress"))
    if not root.sound and outbound != "REGISTRY_ONLY":
        return ()
    return (Sidecar(ref, created(root), egress, Callers(ref.namespace, own) if own else None, outbound),)


def _outbound(group: Reader) -> OutboundMode | None:
    """Without a mode REGISTRY_ONLY is meant: it is the enumeration's zero, which clients leave out."""
    mode = group.fields(OUTBOUND).at("mode")
    return outbound_mode(mode, "REGISTRY_ONLY") if group.present else None


def _egress(group: Reader) -> tuple[Imports, ...]:
    found: list[Imports] = []
    items = group.items()
    for index, item in enumerate(items):
        item.fields(EGRESS)
        at = item.at("port").fields(PORT)
        number = port(at.at("number")) if at.present and at.at("number").require() else 0
        printable(at.at("name"), 253)
        printable(at.at("protocol"), 253)
        hosts = item.at("hosts")
        if hosts.require() and hosts.value == []:
            hosts.refuse("is empty: write ~/* for none")
        if not at.present and index < len(items) - 1:
            item.refuse("is for every port, so it must be the last and the only such")
        imports = Imports(tuple(pair for host in hosts.items() if (pair := _host(host))), number)
        if item.sound:
            found.append(imports)
    if not items and group.sound:
        found.append(Imports((("*", "*"),)))
    return tuple(found)


def _host(reader: Reader) -> tuple[str, str] | None:
    """`namespace/name`, in which both may be patterns."""
    text = reader.text().lower()
    namespace, slash, host = text.partition("/")
    if not reader.sound:
        return None
    if not slash or not (namespace in ("*", ".", "~") or is_label(namespace)):
        reader.refuse(f"{shown(text)} is not a host: write namespace/name, ./name, */name or ~/*")
    elif host != "*" and not is_host(host.removeprefix("*.")):
        reader.refuse(f"{shown(host)} is not a full DNS name, *.example.com or *")
    return namespace, host

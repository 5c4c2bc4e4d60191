"""Sidecar of networking.istio.io, v1, v1beta1 and v1alpha3 (istio/api, sidecar.proto).

The validation is Istio's own, and what is about ports at which a sidecar would listen is refused by name. One
that cannot be read has no effect. This file knows nothing of who is told of which hosts.
"""

from __future__ import annotations

from istio_integration.endpoint import is_host
from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import created, is_label, labels, port, printable
from mesh.model import Callers, Imports, ObjectRef, Sidecar

OBJECT = Fields(("apiVersion", "kind", "metadata", "spec", "status"))
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
    """Without egress all hosts are meant."""
    root.fields(OBJECT)
    spec = root.at("spec").fields(SPEC)
    chosen = spec.at("workloadSelector").fields(WORKLOADS)
    own = labels(chosen.at("labels"))
    _outbound(spec.at("outboundTrafficPolicy").fields(OUTBOUND).at("mode"))
    egress = _egress(spec.at("egress")) or (Imports((("*", "*"),)),)
    return (Sidecar(ref, created(root), egress, Callers(ref.namespace, own) if own else None),)


def _outbound(mode: Reader) -> None:
    if mode.value == "REGISTRY_ONLY":
        mode.refuse(
            "REGISTRY_ONLY is not enforced, for the kernel would let other connections pass: write a "
            "NetworkPolicy with egress rules, which holds with and without an Envoy"
        )
    else:
        mode.choice(("ALLOW_ANY",))


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
        found.append(Imports(tuple(pair for host in hosts.items() if (pair := _host(host))), number))
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

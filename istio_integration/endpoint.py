"""One endpoint, as a ServiceEntry lists them and as a WorkloadEntry is one (istio/api, workload_entry.proto).

What has no effect is read, and said to have none. This file knows nothing of who selects an endpoint.
"""

from __future__ import annotations

from dataclasses import replace

from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import address, is_label, is_subdomain, labels, port, printable
from mesh.model import CLUSTER_SUFFIX, Endpoint, Locality

_DOMAIN = CLUSTER_SUFFIX.partition(".")[2]

ENDPOINT = Fields(
    ("address", "ports", "labels", "weight", "network", "locality", "serviceAccount"),
)
_IDLE = {
    "network": "has no effect: all addresses are of one network",
    "serviceAccount": "has no effect: nothing proves it, so policies judge the address",
}


def endpoint(reader: Reader, *, names: bool) -> Endpoint:
    """At an address or, where `names` may stand, at a DNS name."""
    at, name = _place(reader.at("address"), names=names)
    return replace(template(reader), address=at, name=name)


def template(reader: Reader) -> Endpoint:
    """One without its place."""
    reader.fields(ENDPOINT)
    for field, why in _IDLE.items():
        if printable(reader.at(field), 253):
            reader.at(field).note(why)
    return Endpoint(
        ports=tuple(sorted((key, port(value)) for key, value in reader.at("ports").entries())),
        labels=labels(reader.at("labels")),
        weight=reader.at("weight").integer(0, 65535, 1) or 1,
        locality=Locality.of(printable(reader.at("locality"), 253)),
    )


def _place(reader: Reader, *, names: bool) -> tuple[str, str]:
    if not reader.require():
        return "", ""
    text = reader.text().lower()
    if text.startswith("unix:"):
        reader.refuse(f"{shown(text)} is a socket of one machine; write an address")
    elif is_host(text):
        if in_cluster(text):
            reader.refuse(f"{shown(text)} is a Service's name; route to it by a VirtualService")
        elif not names:
            reader.refuse(f"{shown(text)} is a name, which needs resolution: DNS; write an address")
        return "", text
    return address(reader) or "", ""


def in_cluster(text: str) -> bool:
    """Is it a name, or a pattern of names, in the domain of the cluster?"""
    return f".{text}".endswith(f".{_DOMAIN}")


def is_host(text: str) -> bool:
    """A DNS name with a dot, whose last label is no number (RFC 1123, 2.1)."""
    last = text.rpartition(".")[2]
    return is_subdomain(text) and "." in text and is_label(last) and not last.isdigit()

"""Hosts as Istio's networking API writes them, and for whom an object is (`exportTo`).

Only a name without a dot is short, and then of the object's own namespace; everything else is a full name
(istio/api, virtual_service.proto). A full name that is no Service's stands for a ServiceEntry's host.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address

from mesh import model
from mesh.dialects.reading import Reader, shown
from mesh.dialects.syntax import is_label, is_subdomain
from mesh.model import CLUSTER_SUFFIX, ServiceName
from mesh.routes.host_pattern import covers

_AUTHORITY = re.compile(r"([A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([1-9][0-9]{0,4}))?")


def host(reader: Reader, *, wildcard: bool = False) -> str:
    """A full name, or with `wildcard` a pattern, in lower case; "" if it is unreadable."""
    text = reader.text().lower()
    if not reader.require() or not reader.sound:
        return ""
    if text.startswith("*"):
        if not wildcard:
            reader.refuse(f"{shown(text)} is a pattern; name one service")
        elif text != "*" and not (text.startswith("*.") and is_subdomain(text[2:])):
            reader.refuse(f"{shown(text)} is not a pattern: write * or *.example.com")
        return text if reader.sound else ""
    if not is_subdomain(text):
        reader.refuse(f"{shown(text)} is not a host: write a Service's name or a full DNS name")
        return ""
    if text.endswith(".svc"):
        reader.note(
            f"is taken as a full name; of a Service that is {text}.{CLUSTER_SUFFIX.partition('.')[2]}"
        )
    return text if "." in text else f"{text}.{reader.ref.namespace}.{CLUSTER_SUFFIX}"


def is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def service_of(full: str, namespace: str) -> ServiceName:
    """The service with this full name, as who writes in `namespace` means it."""
    return model.service_of(full) or ServiceName(namespace, full)


def refuse_doubles(items: Sequence[Reader]) -> None:
    """No host may be written twice, nor one inside a pattern beside it."""
    written = [item.text().lower() for item in items]
    for index, (item, later) in enumerate(zip(items, written, strict=True)):
        for earlier in written[:index]:
            if covers(earlier, later) or covers(later, earlier):
                item.refuse(f"{shown(later)} and {shown(earlier)} overlap: leave one of them out")


def authority(reader: Reader) -> tuple[str, int | None]:
    """The host, and the port if there is one; ("", None) if it is absent or unreadable."""
    text = reader.text()
    if not text or not reader.sound:
        return "", None
    found = _AUTHORITY.fullmatch(text)
    if found is None or int(found[2] or 1) > 65535:
        reader.refuse(f"{shown(text)} is not an authority such as example.com or example.com:8080")
        return "", None
    return found[1], int(found[2]) if found[2] else None


def exported(reader: Reader, *, nobody: bool = False) -> tuple[str, ...]:
    """The namespaces that may use an object; `*` is each, and `~` where `nobody` may be meant."""
    found: list[str] = []
    for item in reader.items():
        text = item.text()
        own = reader.ref.namespace if text == "." else text
        if text == "~" and not nobody:
            item.refuse("~ is for services only; write . for the own namespace")
        elif text not in ("*", "~") and item.sound and not is_label(own):
            item.refuse(f"{shown(text)} is not a namespace: write ., * or a name")
        elif own in found:
            item.refuse(f"{shown(own)} stands here twice")
        found.append(own)
    for alone, means in (("*", "every namespace already"), ("~", "no namespace")):
        if alone in found and len(found) > 1:
            reader.refuse(f"{alone} is {means}: let it stand alone")
    return tuple(sorted(found)) or ("*",)

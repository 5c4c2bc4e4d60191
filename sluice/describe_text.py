"""A description of a pod or a Service as people read it, in the shape of `istioctl x describe`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sluice.access_text import names

_LINE = "--------------------"
_INDENT = "   "
_WORDS = {
    ("allow", "kernel"): "kernel",
    ("allow", "envoy"): "Envoy",
    ("partly", "envoy"): "Envoy, by request",
}

Data = Mapping[str, Any]


def pod_text(told: Data) -> Iterator[str]:
    """Lines about a pod."""
    yield f"Pod: {_istio(told['pod'])}"
    ports = ", ".join(f"{_numbered(port)} ({port['name']})" for port in told["ports"])
    yield f"{_INDENT}Pod Ports: {ports}" if ports else f"{_INDENT}Pod names no ports"
    yield f"{_INDENT}Addresses: {', '.join(told['addresses']) or 'none yet'}"
    identity = told["security_id"] or "none"
    yield f"{_INDENT}Service account {told['service_account']}, security id {identity}, node {told['node']}"
    if not told["ready"]:
        yield f"{_INDENT}NOT READY"
    if told["steered_by"]:
        yield f"{_INDENT}Envoy, for:"
        for key in told["steered_by"]:
            why = told["why"].get(key)
            yield f"{_INDENT * 2}{key}" + (f": {why}" if why else "")
    else:
        yield f"{_INDENT}No Envoy: kernel path, nothing steers"
    for service in told["services"]:
        yield _LINE
        yield f"Service: {_istio(service['name'])}"
        yield from (_port(port, _target(port)) for port in service["ports"])
    yield from _rest(told)


def service_text(told: Data) -> Iterator[str]:
    """Lines about a Service."""
    yield f"Service: {_istio(told['service'])}"
    if "external_name" in told:
        yield f"{_INDENT}ExternalName: {told['external_name']}"
        yield f"{_INDENT}Leads to: {told['leads_to'] or 'what DNS says; it is no service of the mesh'}"
        yield from _odd(told)
        return
    yield f"{_INDENT}Addresses: {', '.join(told['addresses']) or 'none (headless)'}"
    yield from (_port(port, f"with {_count(port['backends'])}") for port in told["ports"])
    pods = [
        f"{_istio(pod['name'])} ({'Envoy' if pod['path'] == 'envoy' else 'kernel'})" for pod in told["pods"]
    ]
    yield f"{_INDENT}Pods: {names(pods, 8) or 'none ready'}"
    yield from _rest(told)


def _count(backends: int) -> str:
    return f"{backends} backend{'' if backends == 1 else 's'}"


def _rest(told: Data) -> Iterator[str]:
    yield _LINE
    yield from _enforced(told["rules"], "Rules")
    yield from _enforced(told["routes"], "Routes of its callers")
    yield from map(_reached, told["reached"])
    yield from _odd(told)


def _odd(told: Data) -> Iterator[str]:
    for warning in told["warnings"]:
        yield f"WARNING: {warning}"
    for problem in told["problems"]:
        field = f" {problem['field']}" if problem["field"] else ""
        yield f"PROBLEM: {problem['object']}{field}: {problem['message']}"


def _enforced(entries: Iterable[Data], title: str) -> Iterator[str]:
    """Rules by the place where they are enforced."""
    places: dict[str, list[str]] = {}
    for entry in entries:
        callers = "" if entry.get("callers", "all") == "all" else f", of namespace {entry['callers']}"
        line = f"{entry['object']} {entry['rule']}: {entry['effect']}{callers}"
        places.setdefault(entry["enforced_by"], []).append(line)
    if not places:
        yield f"{title}: none"
    for place, lines in places.items():
        yield f"{title}, enforced by {place}:"
        yield from (f"{_INDENT}{line}" for line in lines)


def _reached(port: Data) -> str:
    """Who may reach a port, in one line."""
    said = [
        f"{_WORDS[access['verdict'], access['path']]}: {names(access['from'], 6)}"
        for access in port["by"]
        if access["verdict"] != "deny"
    ]
    return f"Reached on {port['protocol']} {port['port']} by {'; '.join(said) or 'nobody'}"


def _port(port: Data, more: str) -> str:
    name = f"{port['name']} " if port["name"] else ""
    return f"{_INDENT}Port: {name}{port['port']}/{port['selects']} {more}"


def _target(port: Data) -> str:
    pod_port = port["pod_port"]
    return f"targets pod port {pod_port}" if pod_port else "targets a port that the pod does not name"


def _numbered(port: Data) -> str:
    return str(port["port"]) if port["protocol"] == "TCP" else f"{port['port']}/{port['protocol']}"


def _istio(name: str) -> str:
    """`name.namespace`, as istioctl has it."""
    namespace, _, own = name.partition("/")
    return f"{own}.{namespace}"

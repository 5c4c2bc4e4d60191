"""What all routes of gateway.networking.k8s.io have in common: parents, hostnames, references to
Services, values to match (GEP-1294, GEP-1426).

A reference to a backend of a kind that is not read leaves the route valid and that backend without a
service, so that its share of the traffic is answered as the API demands; anything else that cannot be
read leaves the route without effect. Whether a reference to another namespace is granted is not known
here, nor is precedence, nor Envoy.
"""

from __future__ import annotations

from mesh.dialects.reading import OBJECT, Fields, Reader, shown
from mesh.dialects.syntax import created, expression, is_subdomain, name, port, printable, token
from mesh.model import (
    MESH_GATEWAY,
    ConnectionRule,
    GatewayParent,
    ObjectRef,
    Parent,
    Route,
    RouteRule,
    ServiceName,
    ValueMatch,
)

GROUP = "gateway.networking.k8s.io"

PARENT = Fields(("group", "kind", "namespace", "name", "sectionName", "port"))
VALUE = Fields(("type", "name", "value"))
#: Of a reference to what traffic is sent to; who reads it adds what else stands beside it.
TARGET = ("group", "kind", "namespace", "name", "port")

MAX_WEIGHT = 1_000_000


def read_spec(root: Reader, fields: Fields) -> Reader:
    root.fields(OBJECT)
    spec = root.at("spec").fields(fields)
    spec.require()
    return spec


def routes(
    root: Reader,
    names: tuple[str, ...] = (),
    rules: tuple[RouteRule, ...] = (),
    connections: tuple[ConnectionRule, ...] = (),
) -> tuple[Route, ...]:
    """The route of an object with these hostnames and rules; none if all its parents are left to others."""
    refs = root.at("spec").at("parentRefs")
    found = [parent for item in refs.items(at_most=32) if (parent := _parent(item))]
    if not refs.items():
        refs.refuse("is required: name the Service whose callers, or the Gateway, this route is for")
    parents = tuple(dict.fromkeys(parent for parent in found if isinstance(parent, Parent)))
    attached = tuple(dict.fromkeys(parent for parent in found if isinstance(parent, GatewayParent)))
    if names and parents:
        # GEP-1294: implementations should not infer any functionality from hostnames.
        root.at("spec").at("hostnames").note(
            "has no effect on a Service: the address that is dialled selects the route"
        )
    if not found:
        return ()
    route = Route(
        root.ref,
        created(root),
        parents,
        rules,
        connections,
        names=names,
        gateways=(MESH_GATEWAY,) if parents else (),
        attached=attached,
    )
    return (route,)


# --- where a route applies ---------------------------------------------------------------------


def _parent(reader: Reader) -> Parent | GatewayParent | None:
    reader.fields(PARENT)
    group = reader.at("group").text(GROUP)
    kind = reader.at("kind").text("Gateway")
    wanted = {"Service": "", "Gateway": GROUP}.get(kind)
    if wanted is None:
        reader.note(f"only Services and Gateways are parents, not {shown(kind)}: this one is left to others")
        return None
    if group != wanted:
        reader.at("group").refuse(f'of a {kind} is "{wanted}", not {shown(group)}: write group: "{wanted}"')
        return None
    reader.at("name").require()
    namespace = name(reader.at("namespace"), reader.ref.namespace, label=True)
    number = port(reader.at("port")) if reader.at("port").present else None
    section = reader.at("sectionName")
    if kind == "Gateway":
        own = ObjectRef("Gateway", namespace, name(reader.at("name")))
        return GatewayParent(own, name(section), number)
    if section.present:
        section.refuse("is not supported yet on a Service: name its port by number, in port")
    return Parent(ServiceName(namespace, name(reader.at("name"), label=True)), number)


def hostnames(reader: Reader, at_most: int) -> tuple[str, ...]:
    """DNS names, each of which may begin with the wildcard label `*`, which stands for one or more labels."""
    return tuple(dict.fromkeys(hostname(item) for item in reader.items(at_most)))


def hostname(reader: Reader) -> str:
    text = reader.text()
    bare = text.removeprefix("*.")
    # No top-level domain is all digits (RFC 3696, section 2), so what ends in them is an address.
    if reader.present and reader.sound and (not is_subdomain(bare) or bare.rpartition(".")[2].isdigit()):
        reader.refuse(f"{shown(text)} is not a hostname: write a DNS name in lower case, or *. and one")
    return text


# --- where traffic goes ------------------------------------------------------------------------


def target(reader: Reader, lost: str) -> tuple[ServiceName | None, int]:
    """The Service and port of a reference; `lost` says what becomes of what it cannot be sent to."""
    group, kind = reader.at("group").text(), reader.at("kind").text("Service")
    namespace = name(reader.at("namespace"), reader.ref.namespace, label=True)
    number = port(reader.at("port"))
    reader.at("name").require()
    if (group, kind) != ("", "Service"):
        reader.note(f"only a Service can be a backend, not {shown(kind)}: {lost}")
        return None, number
    reader.at("port").require()
    return ServiceName(namespace, name(reader.at("name"), label=True)), number


def weight(reader: Reader) -> int:
    return reader.at("weight").integer(0, MAX_WEIGHT, 1)


# --- which requests ----------------------------------------------------------------------------


def values(reader: Reader, longest: int, *, fold: bool = False) -> tuple[ValueMatch, ...]:
    """Of entries with the same name only the first counts (HTTPRouteMatch); header names fold case."""
    found: dict[str, ValueMatch] = {}
    for item in reader.items(at_most=16):
        item.fields(VALUE)
        kind = item.at("type").choice(("Exact", "RegularExpression"), "Exact")
        value = item.at("value")
        text = printable(value, longest)
        if value.require() and not text and value.sound:
            value.refuse("must not be empty")
        if kind == "RegularExpression":
            expression(value)
        item.at("name").require()
        own = token(item.at("name"), item.at("name").text())
        own = own.lower() if fold else own
        if own in found:
            item.note(f"has no effect: {shown(own)} stands here before")
        found.setdefault(own, ValueMatch(own, "exact" if kind == "Exact" else "regex", text))
    return tuple(found.values())

"""Where a route sends requests and connections: Destination, weights, mirrors."""

from __future__ import annotations

from typing import NamedTuple

from istio_integration.hosts import host, service_of
from istio_integration.number import WHOLE, share
from mesh.dialects.reading import Fields, Reader
from mesh.dialects.syntax import name, port
from mesh.model import Mirror, RouteBackend, ServiceName

DESTINATION = Fields(("host", "subset", "port"))
PORT = Fields(("number",))
ROUTE_DESTINATION = Fields(("destination", "weight"))
MIRROR = Fields(("destination", "percentage"))

#: Envoy adds the weights of one route up in 32 bits.
_MAX_WEIGHT = 2**32 - 1


class Destination(NamedTuple):
    """`port` 0 is the only one that the service has, else the one that was dialled."""

    service: ServiceName
    port: int
    subset: str


def destination(reader: Reader) -> Destination:
    reader.require()
    reader.fields(DESTINATION)
    full = host(reader.at("host")) if reader.present else ""
    number = reader.at("port").fields(PORT)
    if number.present:
        number.at("number").require()
    return Destination(
        service_of(full, reader.ref.namespace),
        port(number.at("number")),
        name(reader.at("subset"), label=True),
    )


def weights(group: Reader, items: list[Reader]) -> list[int]:
    """The only destination gets everything, whatever its weight; else none means 0."""
    found = [item.at("weight").integer(0, 2**31 - 1) for item in items]
    if len(found) == 1:
        return [100]
    if found and group.sound and not 0 < sum(found) <= _MAX_WEIGHT:
        group.refuse(f"has weights that make {sum(found)}; together they must be 1 to {_MAX_WEIGHT}")
    return found


def backends(group: Reader) -> tuple[RouteBackend, ...]:
    """The destinations of a tcp or tls route."""
    items = [item.fields(ROUTE_DESTINATION) for item in group.items()]
    if not items and group.sound:
        group.refuse("is required: name at least one destination")
    found = []
    for item, weight in zip(items, weights(group, items), strict=True):
        to = destination(item.at("destination"))
        found.append(RouteBackend(to.service, to.port, weight, subset=to.subset))
    return tuple(found)


def mirrors(route: Reader) -> tuple[Mirror, ...]:
    """`mirror` with its percentage, or `mirrors`; without a percentage all requests, with 0 none."""
    one, several = route.at("mirror"), route.at("mirrors")
    percentage, percent = route.at("mirrorPercentage"), route.at("mirrorPercent")
    if one.present and several.present:
        several.refuse("cannot stand beside mirror: write one of them")
    for share_of_one in (percentage, percent):
        if share_of_one.present and not one.present:
            share_of_one.refuse("goes with mirror; in mirrors each entry has a percentage of its own")
    if percentage.present and percent.present:
        percent.refuse("is the old form of mirrorPercentage: write only that")
    found = []
    if one.present:
        old = percent.integer(0, 100, 100) * WHOLE // 100
        found.append(_mirror(one, share(percentage, old)))
    for item in several.items():
        item.fields(MIRROR)
        found.append(_mirror(item.at("destination"), share(item.at("percentage"), WHOLE)))
    return tuple(mirror for mirror in found if mirror.share)


def _mirror(reader: Reader, part: int) -> Mirror:
    to = destination(reader)
    return Mirror(to.service, to.port, to.subset, part)

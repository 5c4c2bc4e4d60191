"""Which ports a rule of a tier is about: `protocols` of v1alpha2, `ports` of v1alpha1."""

from __future__ import annotations

from collections.abc import Callable

from mesh.dialects.reading import Fields, Reader
from mesh.dialects.syntax import port, port_name, transport
from mesh.model import PortMatch, PortName, PortRange, Protocol

TRANSPORT = Fields(("destinationPort",))
PORT = Fields(("number", "range"))
RANGE = Fields(("start", "end"))
PROTOCOL = Fields(("tcp", "udp", "sctp", "destinationNamedPort"))
FORMER = Fields(("portNumber", "portRange", "namedPort"))
FORMER_NUMBER = Fields(("protocol", "port"))
FORMER_RANGE = Fields(("protocol", "start", "end"))

_TRANSPORTS: dict[str, Protocol] = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP"}
MAX_PROTOCOLS = 25
MAX_PORTS = 100


def read_protocols(reader: Reader) -> tuple[PortMatch, ...] | None:
    """None: every port of every protocol."""
    return _matches(reader, MAX_PROTOCOLS, PROTOCOL, _protocol)


def read_ports(reader: Reader) -> tuple[PortMatch, ...] | None:
    """None: every port of every protocol."""
    return _matches(reader, MAX_PORTS, FORMER, _former)


def _matches(
    reader: Reader, at_most: int, fields: Fields, read: Callable[[str, Reader], PortMatch]
) -> tuple[PortMatch, ...] | None:
    if not reader.present:
        return None
    if reader.value == []:
        reader.refuse("is empty: leave it out for every port")
    found: list[PortMatch] = []
    for item in reader.items(at_most=at_most):
        item.fields(fields)
        named = [name for name in fields.read if item.at(name).present]
        if len(named) != 1:
            if item.sound:
                item.refuse(f"needs exactly one of {', '.join(fields.read)}")
            continue
        found.append(read(named[0], item.at(named[0])))
    return tuple(found)


def _protocol(name: str, reader: Reader) -> PortMatch:
    if name == "destinationNamedPort":
        return PortName(None, port_name(reader))
    protocol = _TRANSPORTS[name]
    where = reader.fields(TRANSPORT).at("destinationPort")
    if not where.require():
        return PortRange(protocol)
    where.fields(PORT)
    number, between = where.at("number"), where.at("range")
    if number.present == between.present and where.sound:
        where.refuse("needs exactly one of number and range")
    if number.present:
        return PortRange(protocol, port(number), port(number))
    return _range(protocol, between.fields(RANGE))


def _former(name: str, reader: Reader) -> PortMatch:
    if name == "namedPort":
        return PortName(None, port_name(reader))
    if name == "portNumber":
        reader.fields(FORMER_NUMBER).at("port").require()
        number = port(reader.at("port"))
        return PortRange(transport(reader.at("protocol")), number, number)
    reader.fields(FORMER_RANGE)
    return _range(transport(reader.at("protocol")), reader)


def _range(protocol: Protocol, reader: Reader) -> PortRange:
    start, end = reader.at("start"), reader.at("end")
    if start.require() and end.require() and reader.sound and port(start) >= port(end) and reader.sound:
        reader.refuse("needs a start that is less than its end")
    return PortRange(protocol, port(start), port(end))

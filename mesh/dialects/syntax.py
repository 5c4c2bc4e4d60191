"""What names, labels, addresses, blocks, ports and expressions look like in every API we read.

Each function takes a `Reader`, refuses what is malformed with a word on what would be right, and
returns the value in its normal form, or None. It knows no kind.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import cast

from mesh.dialects.reading import Reader, shown
from mesh.expression import ExpressionError, compile_expression
from mesh.model import PortName, PortRange, Protocol
from mesh.policies.cidr import can_serve

Network = IPv4Network | IPv6Network

TRANSPORTS: tuple[Protocol, ...] = ("TCP", "UDP", "SCTP")

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_SERVICE_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9]|-(?!-)){0,13}[a-z0-9]|[a-z]")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,256}")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_PREFIX_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")
_MAPPED = IPv6Network("::ffff:0:0/96")


def is_label(text: str) -> bool:
    """A DNS label (RFC 1123): what namespaces and services are called."""
    return _LABEL.fullmatch(text) is not None


def is_subdomain(text: str) -> bool:
    """A DNS subdomain (RFC 1123): what most objects are called."""
    return len(text) <= 253 and _SUBDOMAIN.fullmatch(text) is not None


def is_label_key(text: str) -> bool:
    """A key of a Kubernetes label: `[prefix/]name`."""
    prefix, slash, name = text.rpartition("/")
    return _QUALIFIED.fullmatch(name) is not None and (not slash or is_subdomain(prefix))


def is_label_value(text: str) -> bool:
    return not text or _QUALIFIED.fullmatch(text) is not None


def name(reader: Reader, default: str = "", *, label: bool = False) -> str:
    """The name of an object; with `label`, of one whose name must be a DNS label."""
    text = reader.text(default)
    if text and not (is_label(text) if label else is_subdomain(text)):
        what = "at most 63 letters a-z, digits and -" if label else "letters a-z, digits, - and ."
        reader.refuse(f"{shown(text)} is not a name: write {what}, with a letter or digit at both ends")
    return text


def created(root: Reader) -> str:
    """When an object was made: RFC 3339 text, of which YAML loaders may have made a datetime."""
    value = root.at("metadata").at("creationTimestamp").value
    if isinstance(value, str):
        return value
    text = getattr(value, "isoformat", str)
    return "" if value is None else str(text()).replace("+00:00", "Z")


def labels(reader: Reader) -> tuple[tuple[str, str], ...]:
    """A mapping of labels, sorted."""
    found = []
    for key, value in reader.entries():
        if not is_label_key(key):
            value.refuse(f"{shown(key)} is not a label key")
        found.append((key, label_value(value)))
    return tuple(sorted(found))


def label_value(reader: Reader) -> str:
    text = reader.text()
    if not is_label_value(text):
        reader.refuse(f"{shown(text)} is not a label value: at most 63 letters, digits, -, _ and .")
    return text


def address(reader: Reader) -> str | None:
    """A unicast address in its canonical text."""
    text = reader.text()
    if not reader.sound:
        return None
    try:
        found = ip_address(text)
    except ValueError:
        reader.refuse(f"{shown(text)} is not an IP address")
        return None
    if "%" in text or found in _MAPPED:
        reader.refuse(f"{shown(text)} is not an address of a network; write it without zone or mapping")
        return None
    if not can_serve(text):
        reader.refuse(f"{text} cannot be the address of a pod or service")
        return None
    return found.compressed


def network(reader: Reader, *, bare: bool = False) -> Network | None:
    """An address block without host bits; with `bare`, a single address too."""
    text = reader.text()
    if not reader.sound:
        return None
    base, slash, length = text.partition("/")
    try:
        if (slash and not _PREFIX_LENGTH.fullmatch(length)) or "%" in text:
            raise ValueError
        found = ip_network(text, strict=False)
        if not slash and not bare:
            reader.refuse(f"{text} is an address, not a block; did you mean {found}?")
            return None
    except ValueError:
        reader.refuse(f"{shown(text)} is not an address block such as 10.0.0.0/8 or fd00::/64")
        return None
    if ip_address(base) != found.network_address:
        reader.refuse(f"{text}: host bits are set; did you mean {found}?")
        return None
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        plain = IPv4Network((int(found.network_address) & 0xFFFFFFFF, found.prefixlen - 96))
        reader.refuse(f"{text} maps IPv4 into IPv6; write {plain}")
        return None
    return found


def contains(outer: Network, inner: Network) -> bool:
    match outer, inner:
        case (IPv4Network(), IPv4Network()):
            return inner.subnet_of(outer)
        case (IPv6Network(), IPv6Network()):
            return inner.subnet_of(outer)
        case _:
            return False


def exceptions(reader: Reader, block: Network | None, *, strict: bool = False) -> tuple[str, ...]:
    """The blocks left out of `block`, sorted; with `strict`, none may be the whole of it."""
    found = set()
    for item in reader.items():
        inner = network(item)
        if inner is None or block is None:
            continue
        if not contains(block, inner) or (strict and inner == block):
            item.refuse(f"{inner} is not inside {block}; an exception must be part of the block")
        found.add(inner)
    return tuple(str(n) for n in sorted(found, key=lambda n: (int(n.network_address), n.prefixlen)))


def transport(reader: Reader, default: Protocol = "TCP") -> Protocol:
    return cast(Protocol, reader.choice(TRANSPORTS, default))


def port(reader: Reader, default: int = 0) -> int:
    return reader.integer(1, 65535, default)


def port_name(reader: Reader, *, fold: bool = False) -> str:
    """The name of a container's port: an IANA service name; with `fold`, in lower case."""
    text = reader.text().lower() if fold else reader.text()
    if reader.sound and reader.present and not _SERVICE_NAME.fullmatch(text):
        reader.refuse(f"{shown(text)} is not a port name: at most 15 letters a-z, digits and -, one letter")
    return text


def port_or_name(reader: Reader) -> int | str:
    """An integer is a port, a string is a port's name."""
    return port_name(reader) if isinstance(reader.value, str) else port(reader)


def end_port(reader: Reader, first: int | str | None) -> int:
    """The last port of a range that begins at `first`."""
    if not isinstance(first, int):
        if reader.present:
            reader.refuse("needs a port that is a number")
        return 0
    last = port(reader, first)
    if reader.sound and last < first:
        reader.refuse(f"is {last}, which is less than port {first}")
    return last


def port_match(protocol: Protocol | None, number: int | str | None, last: Reader) -> PortRange | PortName:
    """A port, a range or a named port; None is every port."""
    end = end_port(last, number)
    match number:
        case str():
            return PortName(protocol, number)
        case int():
            return PortRange(protocol, number, end)
        case None:
            return PortRange(protocol)


def token(reader: Reader, text: str) -> str:
    """The name of a header or query parameter: a token of RFC 9110."""
    if reader.sound and not _TOKEN.fullmatch(text):
        reader.refuse(f"{shown(text)} is not a name of at most 256 letters, digits and !#$%&'*+-.^_`|~")
    return text


def printable(reader: Reader, at_most: int) -> str:
    """Text without control characters, which would end a header or a log line."""
    text = reader.text()
    if len(text) > at_most:
        reader.refuse(f"is {len(text)} characters long; at most {at_most} are allowed")
    elif _CONTROL.search(text):
        reader.refuse(f"{shown(text)} has a control character")
    return text


def expression(reader: Reader) -> str | None:
    """A regular expression that RE2 accepts; the empty one is absent."""
    text = reader.text()
    if not text:
        return None
    try:
        compile_expression(text)
    except ExpressionError as error:
        reader.refuse(str(error))
    return text

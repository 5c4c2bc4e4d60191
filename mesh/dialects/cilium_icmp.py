"""Which ICMP messages a Cilium rule is about: its `icmps`. A type stands where others have a port."""

from __future__ import annotations

from mesh.dialects.reading import Fields, Reader, shown
from mesh.model import PortRange, Protocol

ICMP_RULE = Fields(("fields",))
FIELD = Fields(("family", "type"))

MAX_FIELDS = 40

#: Names of types (pkg/policy/api/icmp.go, after IANA's registries).
_TYPES: dict[str, dict[str, int]] = {
    "IPv4": {
        "EchoReply": 0,
        "DestinationUnreachable": 3,
        "Redirect": 5,
        "Echo": 8,
        "EchoRequest": 8,
        "RouterAdvertisement": 9,
        "RouterSelection": 10,
        "TimeExceeded": 11,
        "ParameterProblem": 12,
        "Timestamp": 13,
        "TimestampReply": 14,
        "Photuris": 40,
        "ExtendedEchoRequest": 42,
        "ExtendedEchoReply": 43,
    },
    "IPv6": {
        "DestinationUnreachable": 1,
        "PacketTooBig": 2,
        "TimeExceeded": 3,
        "ParameterProblem": 4,
        "EchoRequest": 128,
        "EchoReply": 129,
        "MulticastListenerQuery": 130,
        "MulticastListenerReport": 131,
        "MulticastListenerDone": 132,
        "RouterSolicitation": 133,
        "RouterAdvertisement": 134,
        "NeighborSolicitation": 135,
        "NeighborAdvertisement": 136,
        "RedirectMessage": 137,
        "RouterRenumbering": 138,
        "ICMPNodeInformationQuery": 139,
        "ICMPNodeInformationResponse": 140,
        "InverseNeighborDiscoverySolicitation": 141,
        "InverseNeighborDiscoveryAdvertisement": 142,
        "HomeAgentAddressDiscoveryRequest": 144,
        "HomeAgentAddressDiscoveryReply": 145,
        "MobilePrefixSolicitation": 146,
        "MobilePrefixAdvertisement": 147,
        "DuplicateAddressRequestCodeSuffix": 157,
        "DuplicateAddressConfirmationCodeSuffix": 158,
        "ExtendedEchoRequest": 160,
        "ExtendedEchoReply": 161,
    },
}
_PROTOCOLS: dict[str, Protocol] = {"IPv4": "ICMP", "IPv6": "ICMPv6"}


def read_icmps(icmps: Reader) -> tuple[PortRange, ...]:
    """The types of every entry together; they mean nothing unless `icmps` is still sound afterwards."""
    found = []
    for item in icmps.items():
        fields = item.fields(ICMP_RULE).at("fields")
        entries = fields.items(at_most=MAX_FIELDS)
        if not entries and fields.sound:
            fields.refuse("needs at least one type")
        found += [_field(entry) for entry in entries]
    if icmps.value == []:
        icmps.refuse("is empty: leave it out for every message")
    return tuple(dict.fromkeys(found))


def _field(reader: Reader) -> PortRange:
    reader.fields(FIELD)
    family = reader.at("family").choice(tuple(_TYPES), "IPv4")
    kind = reader.at("type")
    number = 0
    if kind.require():
        if isinstance(kind.value, str) and not kind.value.isdigit():
            names = _TYPES[family]
            if kind.value not in names:
                kind.refuse(
                    f"{shown(kind.value)} is no type of {family}: write 0 to 255 or {', '.join(names)}"
                )
            number = names.get(kind.value, 0)
        elif isinstance(kind.value, str):
            number = int(kind.value) if len(kind.value) < 4 else 256
            if number > 255:
                kind.refuse(f"is {kind.value}; must be 0 to 255")
        else:
            number = kind.integer(0, 255)
    return PortRange(_PROTOCOLS[family], number, number)

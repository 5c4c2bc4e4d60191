"""LocalityLoadBalancerSetting of a DestinationRule and of MeshConfig (istio/api, destination_rule.proto).

The validation is Istio's own. This file knows nothing of where anybody is.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import is_label_key, is_label_value, printable
from mesh.model import Distribution, LocalitySetting
from mesh.topology import LOCALITY

SETTING = Fields(("distribute", "failover", "failoverPriority", "enabled"))
DISTRIBUTE = Fields(("from", "to"))
FAILOVER = Fields(("from", "to"))

#: So that an Envoy has a priority for each.
_MOST_LABELS = 24


def locality_setting(reader: Reader) -> LocalitySetting | None:
    if not reader.fields(SETTING).present:
        return None
    distribute, failover = reader.at("distribute"), reader.at("failover")
    priority = reader.at("failoverPriority")
    found = LocalitySetting(
        reader.at("enabled").boolean(default=True),
        _distribute(distribute.items()),
        tuple(_regions(item) for item in failover.items()),
        tuple(_label(item) for item in priority.items(at_most=_MOST_LABELS)),
    )
    if found.distribute and (found.failover or found.priority):
        other = failover if found.failover else priority
        other.refuse("cannot stand beside distribute: write one of them")
    if found.failover and (both := [key for key in LOCALITY if key in found.priority]):
        priority.refuse(f"cannot hold {both[0]} beside failover, which is about regions itself")
    return found


def _distribute(items: Iterable[Reader]) -> tuple[Distribution, ...]:
    found: list[Distribution] = []
    for item in items:
        item.fields(DISTRIBUTE)
        origin, to = item.at("from"), item.at("to")
        own = _pattern(origin, origin.text()) if origin.require() else ""
        _disjoint(origin, own, [known.origin for known in found])
        shares: list[tuple[str, int]] = []
        entries = to.entries() if to.require() else []
        for key, weight in entries:
            pattern = _pattern(weight, key)
            _disjoint(weight, pattern, [known for known, _ in shares if known != "*"])
            shares.append((pattern, weight.integer(1, 100)))
        if entries and to.sound and (whole := sum(weight for _, weight in shares)) != 100:
            to.refuse(f"has weights that sum up to {whole}; must be 100")
        found.append(Distribution(own, tuple(sorted(shares))))
    return tuple(found)


def _pattern(reader: Reader, text: str) -> str:
    """`region/zone/subzone`; the last part may be `*`, and the last parts may be left out."""
    parts = text.split("/")
    if len(parts) > 3 or not all(parts) or len(text) > 253 or not text.isprintable():
        reader.refuse(f"{shown(text)} is not a place such as region, region/zone or region/zone/subzone")
    elif text.count("*") > 1 or ("*" in text and parts[-1] != "*"):
        reader.refuse(f"{shown(text)} may hold only one *, as its last part")
    return text


def _disjoint(reader: Reader, pattern: str, known: Iterable[str]) -> None:
    """`*` may follow others, for all the rest."""
    own = _plain(pattern)
    for other in known:
        common = min(len(own), len(_plain(other)))
        if own[:common] == _plain(other)[:common] and (own or other == "*"):
            reader.refuse(f"{shown(pattern)} overlaps with {shown(other)}")
            return


def _plain(pattern: str) -> list[str]:
    return [part for part in pattern.split("/") if part != "*"]


def _regions(item: Reader) -> tuple[str, str]:
    item.fields(FAILOVER)
    found = []
    for key in ("from", "to"):
        text = printable(item.at(key), 253) if item.at(key).require() else ""
        if "/" in text or "*" in text:
            item.at(key).refuse(f"{shown(text)} must be a region alone, without / and *")
        found.append(text)
    if item.sound and found[0] == found[1]:
        item.at("to").refuse("must be another region than from")
    return found[0], found[1]


def _label(item: Reader) -> str:
    """`key` or `key=value`."""
    text = item.text()
    key, said, value = text.partition("=")
    if not is_label_key(key) or (said and not is_label_value(value)):
        item.refuse(f"{shown(text)} is not a label's key, nor key=value")
    return text

"""LoadBalancerSettings: which backend takes the next request or connection."""

from __future__ import annotations

from istio_integration.duration import duration_ms
from istio_integration.locality_setting import locality_setting
from istio_integration.number import number
from mesh.dialects.reading import Fields, Reader
from mesh.dialects.syntax import printable, token
from mesh.model import Balancer, HashKey, Simple

LOAD_BALANCER = Fields(
    ("simple", "consistentHash", "warmup", "warmupDurationSecs", "localityLbSetting"),
    refused=("zoneAwareLbSetting",),
)
KEYS = ("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName")
SIZES = ("ringHash", "maglev", "minimumRingSize")
CONSISTENT_HASH = Fields((*KEYS, *SIZES))
COOKIE = Fields(("name", "path", "ttl"), refused=("attributes",))
RING = Fields(("minimumRingSize",))
MAGLEV = Fields(("tableSize",))
WARMUP = Fields(("duration", "minimumPercent", "aggression"))

#: LEAST_CONN is the old name.
_SIMPLE: dict[str, Simple] = {
    "UNSPECIFIED": "LEAST_REQUEST",
    "LEAST_CONN": "LEAST_REQUEST",
    "LEAST_REQUEST": "LEAST_REQUEST",
    "ROUND_ROBIN": "ROUND_ROBIN",
    "RANDOM": "RANDOM",
    "PASSTHROUGH": "PASSTHROUGH",
}
#: Envoy's bounds.
_LARGEST_RING = 8 << 20
_LARGEST_TABLE = 5_000_011
_DEFAULT_RING, _DEFAULT_TABLE = 1024, 65537


def balancer(reader: Reader) -> Balancer | None:
    """Settings of any kind are a whole: what they leave out is the default, not what stands above."""
    if not reader.fields(LOAD_BALANCER).present:
        return None
    simple, consistent = reader.at("simple"), reader.at("consistentHash").fields(CONSISTENT_HASH)
    if simple.present and consistent.present:
        consistent.refuse("cannot stand beside simple: write one of them")
    chosen = _SIMPLE.get(simple.choice(tuple(_SIMPLE), "UNSPECIFIED"), "LEAST_REQUEST")
    ring, table = _sizes(consistent)
    warmup_ms, percent, aggression = _warmup(reader, slow=chosen in ("LEAST_REQUEST", "ROUND_ROBIN"))
    return Balancer(
        chosen,
        _hash_key(consistent) if consistent.present else None,
        ring,
        table,
        warmup_ms,
        percent,
        aggression,
        locality_setting(reader.at("localityLbSetting")),
    )


def _hash_key(reader: Reader) -> HashKey | None:
    said = [key for key in KEYS if reader.at(key).present and reader.at(key).value is not False]
    if len(said) != 1:
        if reader.sound:
            reader.refuse(f"needs exactly one of {', '.join(KEYS)}")
        return None
    value = reader.at(said[0])
    match said[0]:
        case "httpHeaderName":
            return HashKey("header", token(value, value.text()).lower())
        case "httpQueryParameterName":
            return HashKey("query", token(value, value.text()))
        case "httpCookie":
            return _cookie(value.fields(COOKIE))
        case _:
            value.boolean()
            return HashKey("source_ip")


def _cookie(reader: Reader) -> HashKey:
    """With a lifetime, be it 0, Envoy makes the cookie where there is none."""
    own, ttl = reader.at("name"), reader.at("ttl")
    return HashKey(
        "cookie",
        token(own, own.text()) if own.require() else "",
        printable(reader.at("path"), 1024),
        duration_ms(ttl, at_least=0) if ttl.present else None,
    )


def _sizes(reader: Reader) -> tuple[int, int]:
    """(entries of a ring, entries of a Maglev table or 0)"""
    said = [size for size in SIZES if reader.at(size).present]
    if len(said) > 1:
        reader.at(said[1]).refuse(f"cannot stand beside {said[0]}: write one of them")
    old, ring, maglev = reader.at("minimumRingSize"), reader.at("ringHash"), reader.at("maglev")
    entries = ring.fields(RING).at("minimumRingSize") if ring.present else old
    table = maglev.fields(MAGLEV).at("tableSize")
    size = table.integer(2, _LARGEST_TABLE - 1, _DEFAULT_TABLE) if maglev.present else 0
    if size and not _prime(size):
        table.refuse(f"is {size}; must be a prime, such as {_DEFAULT_TABLE}")
    return entries.integer(0, _LARGEST_RING) or _DEFAULT_RING, size


def _prime(size: int) -> bool:
    return all(size % factor for factor in range(2, int(size**0.5) + 1))


def _warmup(reader: Reader, slow: bool) -> tuple[int, int, float]:
    """(milliseconds, percent at the beginning, how steep); the old form is a duration only."""
    old, warmup = reader.at("warmupDurationSecs"), reader.at("warmup").fields(WARMUP)
    if old.present and warmup.present:
        old.refuse("is the old form of warmup: write only that")
    if warmup.present:
        warmup.at("duration").require()
    percent = number(warmup.at("minimumPercent"), 0, 100, 10)
    if percent != int(percent):
        warmup.at("minimumPercent").refuse(f"is {percent}; must be a whole percentage")
    aggression = number(warmup.at("aggression"), 0, 1_000_000, 1.0)
    if not aggression:
        warmup.at("aggression").refuse("is 0; must be more, 1 is linear")
    lasting = duration_ms(warmup.at("duration")) or duration_ms(old)
    if lasting and not (slow and not reader.at("consistentHash").present):
        reader.note("warms up nothing: only LEAST_REQUEST and ROUND_ROBIN do")
        lasting = 0
    return lasting, int(percent), aggression

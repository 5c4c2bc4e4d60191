"""What tells the resources that an Envoy has from those it was sent, in the shape of `istioctl proxy-status
POD`. Pure.

Equal versions, which are hashes of content, are equal resources. Other versions need not be other resources:
Envoy goes on naming the version before where it changes a listener's filter chains in place. There the
resources themselves are compared.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sluice.proxy_sync import TYPES
from sluice.proxy_text.dump import Data, clusters, listeners, routes

#: As istioctl names them: the type, its reader of a dump, and where `xds.render.readable` keeps it.
_COMPARED = (
    ("Clusters", "CDS", clusters, "clusters"),
    ("Listeners", "LDS", listeners, "listeners"),
    ("Routes", "RDS", routes, "routes"),
)

_CONTEXT = 7


@dataclass(frozen=True, slots=True)
class Difference:
    """Of one kind: the names of resources that Envoy lacks, has too many, has in another version, and a
    unified diff of it all."""

    kind: str
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    text: str = ""

    @property
    def matches(self) -> bool:
        return not (self.missing or self.unknown or self.other)

    def plain(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "match": self.matches,
            "missing": list(self.missing),
            "unknown": list(self.unknown),
            "other_version": list(self.other),
        }


def differences(
    wanted: Mapping[str, Any], rendered: Mapping[str, list[Data]], dump: Data
) -> Iterator[Difference]:
    """`wanted` is the proxy's part of the control plane's `/proxies`, `rendered` the same resources readable,
    `dump` Envoy's /config_dump. Endpoints are not compared: Envoy keeps no version of them."""
    for kind, type_, read, key in _COMPARED:
        sent = {name: entry["version"] for name, entry in wanted.get(TYPES[type_], {}).items()}
        # What has no version is of the bootstrap.
        has = {resource["name"]: (version, resource) for version, resource in read(dump) if version}
        missing = tuple(sorted(sent.keys() - has.keys()))
        unknown = tuple(sorted(has.keys() - sent.keys()))
        texts = {resource["name"]: _alike(resource) for resource in rendered.get(key, ())}
        other = tuple(
            sorted(
                name
                for name in sent.keys() & has.keys()
                if has[name][0] != sent[name] and _alike(has[name][1]) != texts.get(name)
            )
        )
        changed = sorted({*missing, *unknown, *other})
        text = _diff(
            kind,
            [texts[name] for name in changed if name in texts],
            [_alike(has[name][1]) for name in changed if name in has],
        )
        yield Difference(kind, missing, unknown, other, text)


def _alike(value: Any) -> Any:
    """Plain data with numbers as text: one printer quotes those of 64 bits, the other does not."""
    if isinstance(value, Mapping):
        return {key: _alike(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_alike(part) for part in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _diff(kind: str, sent: list[Data], has: list[Data]) -> str:
    lines = difflib.unified_diff(
        _lines(sent), _lines(has), f"Sluice {kind}", f"Envoy {kind}", n=_CONTEXT, lineterm=""
    )
    return "\n".join(lines)


def _lines(resources: list[Data]) -> list[str]:
    # In one order of keys, for the two come from different printers.
    return [line for found in resources for line in json.dumps(found, indent=3, sort_keys=True).splitlines()]

"""What a Cilium rule asks of requests: `rules` of an entry of `toPorts` (pkg/policy/api/l7.go, http.go)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from mesh.dialects.cilium_names import name_pattern
from mesh.dialects.reading import Fields, Reader
from mesh.dialects.syntax import expression, printable, token
from mesh.model import HeaderAction, HeaderMatch, HttpMatch, NamePattern

L7_RULES = Fields(("http", "dns"), refused=("kafka", "l7", "l7proto"))
HTTP_RULE = Fields(("method", "path", "host", "headers", "headerMatches"))
HEADER_MATCH = Fields(("name", "value", "mismatch"), refused=("secret",))

#: A request may differ from what is wanted in any subset of these.
MAX_ACTIONS = 4

_ACTIONS = ("LOG", "ADD", "DELETE", "REPLACE")


@dataclass(frozen=True, slots=True)
class L7:
    """At most one of these is there."""

    http: tuple[HttpMatch, ...] | None = None
    server_names: tuple[NamePattern, ...] | None = None
    dns: tuple[NamePattern, ...] | None = None

    @property
    def what(self) -> str:
        """What messages call it; empty if nothing is asked."""
        if self.http is not None:
            return "HTTP"
        if self.server_names is not None:
            return "serverNames"
        return "" if self.dns is None else "DNS"


NOTHING = L7()


def read_l7(rules: Reader, egress: bool) -> L7:
    """What could not be read leaves the rule unsound; it is then of the kind that it names."""
    if not rules.present:
        return NOTHING
    rules.fields(L7_RULES)
    http, dns = rules.at("http"), rules.at("dns")
    if http.present and dns.present:
        dns.refuse("cannot stand beside http: one port speaks one protocol")
    if dns.present:
        if not egress:
            dns.refuse("goes with egress only")
        return L7(dns=_dns(dns))
    found = tuple(_match(item) for item in http.items())
    if not found and rules.sound:
        http.refuse("needs at least one rule; an empty one, {}, matches every request")
    return L7(http=found)


def _dns(reader: Reader) -> tuple[NamePattern, ...]:
    found = tuple(name_pattern(item) for item in reader.items())
    if not found and reader.sound:
        reader.refuse("needs at least one name; matchPattern * is every name")
    return tuple(sorted(set(found)))


def _match(reader: Reader) -> HttpMatch:
    reader.fields(HTTP_RULE)
    method, path, host = (expression(reader.at(name)) for name in ("method", "path", "host"))
    headers = {_header(item) for item in reader.at("headers").items()}
    actions: list[HeaderAction] = []
    for item in reader.at("headerMatches").items():
        found = _header_match(item)
        if isinstance(found, HeaderAction):
            actions.append(found)
        else:
            headers.add(found)
    if len(actions) > MAX_ACTIONS:
        reader.at("headerMatches").refuse(f"has {len(actions)} mismatch actions; at most {MAX_ACTIONS} work")
    return HttpMatch(method, path, host, tuple(sorted(headers, key=str)), tuple(actions))


def _header(reader: Reader) -> HeaderMatch:
    """As Cilium reads it: `X-Name: value` must be equal, `X-Name` alone must be present."""
    name, space, value = printable(reader, 4096).partition(" ")
    name = name.rstrip(":") if space else name
    return HeaderMatch(token(reader, name).lower(), value if space else None)


def _header_match(reader: Reader) -> HeaderMatch | HeaderAction:
    reader.fields(HEADER_MATCH)
    reader.at("name").require()
    name = token(reader.at("name"), reader.at("name").text()).lower()
    value, mismatch = reader.at("value"), reader.at("mismatch")
    action = mismatch.choice(_ACTIONS)
    text = printable(value, 4096)
    if not mismatch.present:
        return HeaderMatch(name, text if value.present and text else None)
    return HeaderAction(name, text, cast(Literal["LOG", "ADD", "DELETE", "REPLACE"], action))

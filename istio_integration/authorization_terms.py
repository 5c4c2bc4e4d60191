"""The terms of an authorization rule: what `source`, `operation` and `when` say, field by field.

Values are exact, `prefix*`, `*suffix` or `*` for anything that is there; paths may be templates with
`{*}` and `{**}` (istio/api, authorization_policy.proto).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.string_match import text_match as text
from mesh.dialects.syntax import network, printable, token
from mesh.model import (
    CidrPeer,
    ConnectionAttribute,
    ObjectRef,
    RequestAttribute,
    Term,
    TextMatch,
)

Attribute = ConnectionAttribute | RequestAttribute
Value = TextMatch | CidrPeer | int
#: Reads one value; None if it is unreadable.
Parse = Callable[[Reader], Value | None]

_LONGEST = 4096
_NUMBER = re.compile(r"[1-9][0-9]{0,4}")
_CLAIM = re.compile(r"request\.auth\.claims((\[[^\[\]]+\])+)")
_HEADER = re.compile(r"request\.headers\[([^\[\]]+)\]")

#: Attributes that a peer without identity has none of (threat N19).
_IDENTITY = ("principal", "namespace", "service_account")


def path(reader: Reader) -> TextMatch | None:
    """As `text`, or a template."""
    found = printable(reader, _LONGEST)
    if "{" not in found and "}" not in found:
        return text(reader)
    if not reader.sound:
        return None
    elements = found.split("/")
    rest = ["".join(element.split("{**}")) for element in elements]
    operators = [element.count("{*}") + element.count("{**}") for element in elements]
    plain = [element.replace("{**}", "").replace("{*}", "") for element in elements]
    deep = [index for index, element in enumerate(elements) if "{**}" in element]
    if any(c in part for part in plain for c in "{}*") or max(operators) > 1 or len(rest) != len(elements):
        reader.refuse(
            f"{shown(found)} is no template: each element holds at most one {{*}} or {{**}}, and no *"
        )
        return None
    if deep and (len(deep) > 1 or any("{" in element for element in elements[deep[0] + 1 :])):
        reader.refuse(f"{shown(found)} is no template: {{**}} must be the last operator")
        return None
    return TextMatch("template", found)


def principal(reader: Reader) -> TextMatch | None:
    if reader.text().startswith("spiffe://"):
        reader.refuse("is written without spiffe://, such as cluster.local/ns/shop/sa/web")
        return None
    return text(reader)


def host(reader: Reader) -> TextMatch | None:
    found = text(reader)
    return None if found is None else TextMatch(found.kind, found.value.lower())


def service_account(reader: Reader) -> TextMatch | None:
    """`name` is of the policy's own namespace."""
    found = printable(reader, _LONGEST)
    namespace, slash, account = found.rpartition("/")
    if not reader.sound:
        return None
    if not account or "/" in namespace or "*" in found or (slash and not namespace):
        reader.refuse(f"{shown(found)} is not an account: write name or namespace/name, without *")
        return None
    return TextMatch("exact", f"{namespace or reader.ref.namespace}/{account}")


def block(reader: Reader) -> CidrPeer | None:
    found = network(reader, bare=True)
    return None if found is None else CidrPeer(str(found), (), "anyone")


def port(reader: Reader) -> int | None:
    found = reader.text()
    if not reader.sound:
        return None
    if not _NUMBER.fullmatch(found) or int(found) > 65535:
        reader.refuse(f"{shown(found)} is not a port: write a number from 1 to 65535, quoted")
        return None
    return int(found)


_SOURCE: dict[str, tuple[Attribute, Parse]] = {
    "principals": ("principal", principal),
    "requestPrincipals": ("request_principal", text),
    "namespaces": ("namespace", text),
    "serviceAccounts": ("service_account", service_account),
    "ipBlocks": ("source_ip", block),
    "remoteIpBlocks": ("remote_ip", block),
}
_OPERATION: dict[str, tuple[Attribute, Parse]] = {
    "hosts": ("host", host),
    "ports": ("destination_port", port),
    "methods": ("method", text),
    "paths": ("path", path),
}
#: Keys of conditions that stand for themselves.
_KEYS: dict[str, tuple[Attribute, Parse]] = {
    "source.ip": ("source_ip", block),
    "remote.ip": ("remote_ip", block),
    "source.namespace": ("namespace", text),
    "source.principal": ("principal", principal),
    "source.serviceAccount": ("service_account", service_account),
    "request.auth.principal": ("request_principal", text),
    "request.auth.audiences": ("audience", text),
    "request.auth.presenter": ("presenter", text),
    "destination.ip": ("destination_ip", block),
    "destination.port": ("destination_port", port),
    "connection.sni": ("sni", text),
}


def _opposite(field: str) -> str:
    return f"not{field[0].upper()}{field[1:]}"


SOURCE = Fields((*_SOURCE, *map(_opposite, _SOURCE)))
OPERATION = Fields((*_OPERATION, *map(_opposite, _OPERATION)))
CONDITION = Fields(("key", "values", "notValues"))


def source(reader: Reader, ref: ObjectRef, allows: bool) -> tuple[Term, ...]:
    """Who calls: every field must fit."""
    reader.fields(SOURCE)
    accounts = [f for f in ("serviceAccounts", "notServiceAccounts") if reader.at(f).present]
    for other in ("principals", "notPrincipals", "namespaces", "notNamespaces"):
        if accounts and reader.at(other).present:
            reader.at(other).refuse(f"cannot stand beside {accounts[0]}")
    return tuple(_all(reader, _SOURCE, allows))


def operation(reader: Reader) -> tuple[Term, ...]:
    """What is asked for: every field must fit."""
    reader.fields(OPERATION)
    return tuple(_all(reader, _OPERATION, allows=False))


def condition(reader: Reader, ref: ObjectRef, allows: bool) -> tuple[Term, ...]:
    """One entry of `when`."""
    reader.fields(CONDITION)
    key = reader.at("key")
    known = _key(key)
    values, others = reader.at("values"), reader.at("notValues")
    if not values.present and not others.present:
        reader.refuse("needs values or notValues")
    if known is None:
        return ()
    term, parse = known
    found: list[Term] = []
    for group, negated in ((values, False), (others, True)):
        if group.present:
            found += _terms(group, replace(term, negated=negated), parse, allows)
    return tuple(found)


def _key(reader: Reader) -> tuple[Term, Parse] | None:
    """The term without its values. Only brackets nest: a claim may be called such as https://acme.example/role."""
    written = printable(reader, _LONGEST)
    if not reader.require() or not reader.sound:
        return None
    if written in _KEYS:
        attribute, parse = _KEYS[written]
        return Term(attribute), parse
    if header := _HEADER.fullmatch(written):
        return Term("header", key=token(reader, header[1]).lower()), text
    if claim := _CLAIM.fullmatch(written):
        return Term("claim", path=tuple(claim[1][1:-1].split("]["))), text
    if written.startswith("experimental.envoy.filters."):
        reader.refuse(f"{written} is not supported yet")
    else:
        names = ", ".join([*_KEYS, "request.headers[NAME]", "request.auth.claims[NAME]"])
        reader.refuse(f"{shown(written)} is no key; the keys are {names}")
    return None


def _all(reader: Reader, table: dict[str, tuple[Attribute, Parse]], allows: bool) -> Iterator[Term]:
    for field, (attribute, parse) in table.items():
        for name, negated in ((field, False), (_opposite(field), True)):
            group = reader.at(name)
            if group.present:
                yield from _terms(group, Term(attribute, negated=negated), parse, allows)


def _terms(group: Reader, term: Term, parse: Parse, allows: bool) -> Iterator[Term]:
    """Threat N19: what an ALLOW excludes by identity it must first know."""
    items = group.items()
    if not items and group.sound:
        group.refuse("is empty: leave it out, or write at least one value")
    values = [value for item in items if (value := parse(item)) is not None]
    if term.negated and allows and term.attribute in _IDENTITY:
        yield Term("known")
    yield replace(term, values=tuple(dict.fromkeys(values)))

"""ReferenceGrant of gateway.networking.k8s.io: leave to refer to objects of its namespace.

Who refers, and whether that is granted, is not known here.
"""

from __future__ import annotations

import re

from mesh.dialects.gateway_route import read_spec
from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import is_subdomain, name
from mesh.model import GrantFrom, GrantTo, ObjectRef, ReferenceGrant

SPEC = Fields(("from", "to"))
FROM = Fields(("group", "kind", "namespace"))
TO = Fields(("group", "kind", "name"))

_KIND = re.compile(r"[a-zA-Z]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?")


def read_reference_grant(root: Reader, ref: ObjectRef) -> tuple[ReferenceGrant, ...]:
    spec = read_spec(root, SPEC)
    froms = {_from(item) for item in spec.at("from").items(at_most=16)}
    tos = {_to(item) for item in spec.at("to").items(at_most=16)}
    for key, found in (("from", froms), ("to", tos)):
        if not found and spec.at(key).sound:
            spec.at(key).refuse("is required: a grant names who may refer, and to what")
    return (ReferenceGrant(ref, tuple(sorted(froms)), tuple(sorted(tos))),)


def _from(reader: Reader) -> GrantFrom:
    reader.fields(FROM)
    namespace = reader.at("namespace")
    if namespace.require() and namespace.value == "":
        namespace.refuse("is empty: name the namespace that may refer")
    return GrantFrom(_group(reader.at("group")), _kind(reader.at("kind")), name(namespace, label=True))


def _to(reader: Reader) -> GrantTo:
    reader.fields(TO)
    return GrantTo(_group(reader.at("group")), _kind(reader.at("kind")), name(reader.at("name")))


def _group(reader: Reader) -> str:
    """ "" is the core group, but it is written."""
    reader.require()
    text = reader.text()
    if text and not is_subdomain(text):
        reader.refuse(f'{shown(text)} is not a group: write one such as gateway.networking.k8s.io, or ""')
    return text


def _kind(reader: Reader) -> str:
    text = reader.text()
    if reader.require() and reader.sound and not _KIND.fullmatch(text):
        reader.refuse(f"{shown(text)} is not a kind: write one such as Service")
    return text

"""HTTPRewrite: what of a request is changed on its way.

Istio says it to Envoy as a prefix rewrite, whatever the match: what the match names is replaced, which of an
exact path or an expression is the whole path, and without a uri match the first slash.
"""

from __future__ import annotations

import re

from istio_integration.hosts import authority
from istio_integration.http_answers import path
from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import expression, printable
from mesh.expression import compile_expression
from mesh.model import PathChange, Rewrite

REWRITE = Fields(("uri", "authority", "uriRegexRewrite"))
REGEX_REWRITE = Fields(("match", "rewrite"))

_GROUP = re.compile(r"\\(.?)", re.DOTALL)


def rewrite(reader: Reader, header: str | None, fallback: str | None) -> Rewrite | None:
    """`header` is what the route's header changes make of the authority, `fallback` what those of its only
    destination do."""
    reader.fields(REWRITE)
    uri, substitution = reader.at("uri"), reader.at("uriRegexRewrite").fields(REGEX_REWRITE)
    authority(reader.at("authority"))
    hostname = reader.at("authority").text()
    if hostname and header is not None:
        reader.at("authority").refuse("is changed by headers, too: write it once")
    if uri.text() and substitution.present:
        substitution.refuse("cannot stand beside uri: write one of them")
    if reader.present and reader.sound and not (uri.text() or substitution.present or hostname):
        reader.refuse("says nothing: write uri, uriRegexRewrite or authority")
    change = _substitution(substitution) if substitution.present else None
    if uri.text():
        change = PathChange("start", path(uri))
    hostname = hostname or header or fallback or ""
    return Rewrite(hostname or None, change) if hostname or change else None


def _substitution(reader: Reader) -> PathChange:
    pattern, text = reader.at("match"), reader.at("rewrite")
    for part in (pattern, text):
        if part.require() and part.sound and not part.text():
            part.refuse("must not be empty")
    found = printable(text, 4096)
    expression(pattern)
    if reader.sound:
        groups = compile_expression(pattern.text()).groups
        for escaped in _GROUP.findall(found):
            if escaped != "\\" and not (escaped in "0123456789" and escaped and int(escaped) <= groups):
                text.refuse(f"{shown(found)}: after a backslash stands another or a group, 0 to {groups}")
                break
    return PathChange("regex", found, pattern.text())

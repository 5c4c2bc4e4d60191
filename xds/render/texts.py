"""Values of AuthorizationPolicy as Envoy's string matchers. Each is a literal: what goes into an expression
is escaped (threat N17).

Where a rule that denies relies on an expression, `.` will not do: RE2 matches no line break with it, and no
byte that is not UTF-8 where it reads text as that, so a client could hide with one. `\\C` matches every byte.
"""

from __future__ import annotations

import re2
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher

from mesh.model import TextMatch
from mesh.policies.authorization import has_port

#: Anything at all, and anything but nothing.
ANYTHING, SOMETHING = r"\C*", r"\C+"

_SPACE = "[ \t]*"
_BLANK = (" ", "\t")


def matcher(text: TextMatch, *, ignore_case: bool = False) -> StringMatcher:
    """A whole value, as `mesh.policies.authorization.text_matches` has it. An empty one is an absent one."""
    match text.kind:
        case "exact":
            return StringMatcher(exact=text.value, ignore_case=ignore_case)
        case "prefix" if text.value:
            return StringMatcher(prefix=text.value, ignore_case=ignore_case)
        case "suffix" if text.value:
            return StringMatcher(suffix=text.value, ignore_case=ignore_case)
        case "present":
            return expression(SOMETHING)
        case "template":
            return expression(template(text.value))
    return expression(ANYTHING)


def regex(text: TextMatch) -> str:
    """The same as an RE2 expression."""
    escaped = re2.escape(text.value)
    match text.kind:
        case "exact":
            return str(escaped)
        case "prefix":
            return f"{escaped}{ANYTHING}"
        case "suffix":
            return f"{ANYTHING}{escaped}"
        case "template":
            return template(text.value)
    return SOMETHING


def expression(regex: str) -> StringMatcher:
    """The whole of a value matches an RE2 expression."""
    return StringMatcher(safe_regex=RegexMatcher(regex=regex))


def template(value: str) -> str:
    """A path in which `{*}` is one element or a part of one, not empty, and `{**}` anything. (Envoy's own
    URI template matcher is content with fewer characters than a path may hold.)"""
    escaped = re2.escape(value).replace(re2.escape("{**}"), ANYTHING)
    return str(escaped.replace(re2.escape("{*}"), "[^/]+"))


def element(text: TextMatch) -> str | None:
    """An expression for lists of values, divided by commas, of which one element matches. None: no element
    can, unless the whole list does."""
    value = text.value
    if text.kind not in ("exact", "prefix", "suffix") or "," in value:
        return None
    if (value[:1] in _BLANK and text.kind != "suffix") or (value[-1:] in _BLANK and text.kind != "prefix"):
        return None  # elements are compared without the white space around them
    before = ANYTHING if text.kind == "suffix" else rf"(?:{ANYTHING},)?{_SPACE}"
    after = ANYTHING if text.kind == "prefix" else rf"{_SPACE}(?:,{ANYTHING})?"
    return f"{before}{re2.escape(value)}{after}"


def host(text: TextMatch) -> StringMatcher:
    """The authority of a request, in any case, and, for a value without a port, with or without one and with
    or without the final dot of the root (threats N05, N06). Whatever follows the colon counts as a port:
    there are servers that do not care."""
    value = text.value
    if text.kind not in ("exact", "suffix") or has_port(value):
        return matcher(text, ignore_case=True)
    before = ""
    if text.kind == "suffix":
        # Of a name, or of an address in brackets.
        before = r"\[[^\]]*" if "]" in value else r"(?:\[[^\]]*\])?[^:]*"
    return expression(f"{before}{any_case(value)}[.]?(?::{ANYTHING})?")


def any_case(value: str) -> str:
    """A literal in any case of ASCII. (RE2's own flag would also fold letters beyond it.)"""
    return "".join(
        f"[{char.lower()}{char.upper()}]" if char.isascii() and char.isalpha() else re2.escape(char)
        for char in value
    )

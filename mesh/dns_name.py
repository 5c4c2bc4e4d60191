"""DNS names, and the patterns that policies write for them (Cilium, `pkg/fqdn/matchpattern`).

Names are judged in lower case without their final dot. `*` in a pattern is any characters of one
label, also none; a leading `**.` is one or more whole labels; a lone `*` is every name.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mesh.expression import Expression, compile_expression
from mesh.model import NamePattern

#: The longest name that DNS carries (RFC 1035 section 2.3.4), less its final dot.
LONGEST = 254

_PATTERN = re.compile(r"[-a-zA-Z0-9_.*]{1,255}")
_NAME = re.compile(r"[-a-zA-Z0-9_.]{1,255}")
_CHARACTERS = "[-a-z0-9_]"
_LABELS = f"({_CHARACTERS}+[.])+"


def canonical(name: str) -> str:
    """The form in which names and patterns are compared."""
    return name.lower().removesuffix(".")


def is_name(text: str) -> bool:
    """May a policy name this, `matchName`?"""
    return _NAME.fullmatch(text) is not None


def is_pattern(text: str) -> bool:
    """May a policy write this pattern, `matchPattern`?"""
    return _PATTERN.fullmatch(text) is not None


def matches(pattern: NamePattern, name: str) -> bool:
    """Is the name (canonical) one that the pattern means?"""
    if "*" not in pattern.text:
        return name == pattern.text
    return _compiled(pattern.text).matches(name)


def expression_of(pattern: NamePattern) -> str:
    """An RE2 expression for the whole of a canonical name."""
    text = pattern.text
    if text == "*":
        return f"(({_CHARACTERS}+[.])*{_CHARACTERS}+)?"
    prefix = ""
    if text.startswith("**."):
        prefix, text = _LABELS, text[3:]
    parts = [part.replace(".", "[.]") for part in re.split(r"\*+", text)]
    return prefix + f"{_CHARACTERS}*".join(parts)


@lru_cache(maxsize=8192)
def _compiled(text: str) -> Expression:
    return compile_expression(expression_of(NamePattern(text)))

"""Users' regular expressions, judged as Envoy judges them.

RE2 and nothing else: it runs in linear time, so an expression cannot be a weapon against the
control plane, and Envoy uses it too, so what compiles here compiles there. This file knows no API.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import re2

#: Longest expression that is accepted, in characters.
MAX_LENGTH = 1024


class ExpressionError(ValueError):
    """An expression that RE2 does not accept; the text says what is wrong and quotes it."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression. Two are equal if their texts are."""

    text: str
    _program: Any = field(compare=False, repr=False)

    @property
    def groups(self) -> int:
        """How many groups a substitution may name, besides the whole."""
        return int(self._program.groups)

    def matches(self, value: str) -> bool:
        """Whether the *whole* of `value` matches; a value that is not UTF-8 text matches nothing."""
        try:
            return self._program.fullmatch(value) is not None
        except UnicodeEncodeError:
            return False

    def occurs(self, value: str) -> bool:
        """Whether some part of `value` matches."""
        try:
            return self._program.search(value) is not None
        except UnicodeEncodeError:
            return False

    def reach(self, value: str) -> int:
        """How many characters at the start of `value` match; 0 if it does not begin so."""
        try:
            found = self._program.match(value)
        except UnicodeEncodeError:
            return 0
        return found.end() if found else 0


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False
    return options


_OPTIONS = _options()


@lru_cache(maxsize=4096)
def compile_expression(text: str) -> Expression:
    """Compiles `text`, or raises `ExpressionError`."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"is {len(text)} characters long; at most {MAX_LENGTH} are allowed")
    try:
        return Expression(text, re2.compile(text, _OPTIONS))
    except UnicodeEncodeError:
        raise ExpressionError("is not text that can be written as UTF-8") from None
    except re2.error as error:
        # RE2 quotes the part that it dislikes as it stands, so it may hold control characters.
        reason = "".join(c if c.isprintable() else "?" for c in error.args[0].decode("utf-8", "replace"))
        raise ExpressionError(f"{text!r} is not an RE2 expression: {reason}") from None

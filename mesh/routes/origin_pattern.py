"""Origins with a wildcard, as the Gateway API writes them (HTTPCORSFilter.allowOrigins): RE2 expressions of
them, and back. Pure text.
"""

from __future__ import annotations

import re

ANY = ".*"
_ANY_HOST = r"([^/:\[\]]+|\[[0-9a-f:.]+\])"
_ANY_LABELS = r"[^/:\[\]]+"


def expression_of(scheme: str, host: str, ending: str) -> str:
    """`host` begins with `*`; `ending` is the port with its colon, if there is one."""
    any_part = _ANY_HOST if host == "*" else _ANY_LABELS
    return f"{scheme}://{any_part}{re.escape(host.removeprefix('*'))}{ending}"


def written(expression: str) -> str:
    """What an expression was made of, for people."""
    if expression == ANY:
        return "*"
    scheme, separator, rest = expression.partition("://")
    for any_part in (_ANY_HOST, _ANY_LABELS):
        if rest.startswith(any_part):
            return f"{scheme}{separator}*{rest.removeprefix(any_part)}".replace("\\", "")
    return expression

"""CEL, as far as it is read: filters of access logs, and single attributes as values of labels.

Envoy refuses a whole listener for an expression that it cannot parse or whose functions it does not know, and
logs nothing where an attribute does not exist. So an expression is parsed here, and must be of this subset:

    expression  = all { "||" all }            all = comparison { "&&" comparison }
    comparison  = value [ ("==" | "!=" | "<" | "<=" | ">" | ">=" | "in") value ]
    value       = "!" value | "(" expression ")" | literal | "[" literal { "," literal } "]"
                | function "(" value ")" | attribute
                  and behind a value "[" literal "]", ".size()" or .startsWith, .endsWith, .contains, .matches
                  of one literal text

Functions are `has`, `size`, `int` and `duration`. Attributes are Envoy's, of requests and connections:
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/advanced/attributes
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mesh.expression import ExpressionError, compile_expression

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>"(?:[^"\\\r\n]|\\["'\\nrt])*"|'(?:[^'\\\r\n]|\\["'\\nrt])*')
    | (?P<number>-?[0-9]+(?:\.[0-9]+)?(?![A-Za-z0-9_.]))
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*(?![A-Za-z0-9_"']))
    | (?P<sign>&&|\|\||==|!=|<=|>=|[!<>()\[\],.])
    )""",
    re.VERBOSE,
)
_ESCAPED = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
_DURATION = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,9})?(h|m|s|ms|us|ns)")
#: Envoy takes 32 levels of all kinds together.
_LONGEST, _DEEPEST, _MOST_TOKENS = 2048, 8, 400
_COMPARING = ("==", "!=", "<", "<=", ">", ">=", "in")
_TEXT_METHODS = ("startsWith", "endsWith", "contains", "matches")

#: Attributes by what they are of; None: a map, or messages of which anything may be asked.
ATTRIBUTES: dict[str, tuple[str, ...] | None] = {
    "request": (
        *("path", "url_path", "host", "scheme", "method", "headers", "referer", "useragent", "time", "id"),
        *("protocol", "query", "duration", "size", "total_size"),
    ),
    "response": (
        *("code", "code_details", "flags", "grpc_status", "headers", "trailers", "size", "total_size"),
        "backend_latency",
    ),
    "source": ("address", "port"),
    "destination": ("address", "port"),
    "connection": (
        *("id", "mtls", "requested_server_name", "tls_version", "subject_local_certificate"),
        *("subject_peer_certificate", "uri_san_peer_certificate", "uri_san_local_certificate"),
        *("dns_san_peer_certificate", "dns_san_local_certificate", "sha256_peer_certificate_digest"),
        *("termination_details", "transport_failure_reason"),
    ),
    "upstream": ("address", "port", "local_address", "transport_failure_reason", "request_attempt_count"),
    "xds": ("cluster_name", "route_name", "filter_chain_name", "listener_direction"),
    "metadata": None,
    "filter_state": None,
}
#: Attributes whose members, behind a dot or in brackets, are the user's.
_MAPS = ("request.headers", "response.headers", "response.trailers")


class CelError(ValueError):
    """What is wrong with an expression, in words."""


def check(text: str) -> None:
    """Raises CelError unless Envoy would take the expression and its attributes exist."""
    if len(text) > _LONGEST:
        raise CelError(f"has {len(text)} characters; at most {_LONGEST} are allowed")
    _Parser(list(_tokens(text))).whole()


def attribute(text: str) -> str | None:
    """The attribute that an expression is, such as `request.method`; None if it is no name at all."""
    return text if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", text) else None


def literal(text: str) -> str | None:
    """The text that an expression is, if it is one in quotes."""
    found = _TOKEN.fullmatch(text)
    return _plain(found["text"]) if found and found["text"] else None


def _plain(quoted: str) -> str:
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[1]), quoted[1:-1])


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Kind and text of each; the last is ("end", "")."""
    at, rest = 0, text.rstrip(" \t\r\n")
    while at < len(rest):
        found = _TOKEN.match(rest, at)
        if found is None:
            raise CelError(f"cannot be read from {rest[at : at + 20].strip()!r} on")
        yield str(found.lastgroup), found[str(found.lastgroup)]
        at = found.end()
    yield "end", ""


class _Parser:
    """By recursive descent; each method takes what it is named after, and raises CelError."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        if len(tokens) > _MOST_TOKENS:
            raise CelError(f"has more than {_MOST_TOKENS} words")
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def whole(self) -> None:
        self._expression()
        if self._next[0] != "end":
            raise CelError(f"has {self._next[1]!r} where it should end or go on with && or ||")

    @property
    def _next(self) -> tuple[str, str]:
        return self._tokens[self._at]

    def _take(self) -> tuple[str, str]:
        self._at += 1
        return self._tokens[self._at - 1]

    def _took(self, *words: str) -> bool:
        found = self._next[0] in ("sign", "name") and self._next[1] in words
        self._at += found
        return found

    def _expect(self, word: str) -> None:
        if not self._took(word):
            raise CelError(f"lacks {word!r} before {self._next[1] or 'its end'!r}")

    def _expression(self) -> None:
        self._comparison()
        while self._took("&&", "||"):
            self._comparison()

    def _comparison(self) -> None:
        self._value()
        if self._took(*_COMPARING):
            self._value()

    def _value(self) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise CelError(f"is nested more than {_DEEPEST} deep")
        if self._took("!"):
            if self._next[1] == "!":
                raise CelError("says ! twice")
            self._value()
        elif self._took("("):
            self._expression()
            self._expect(")")
        elif self._took("["):
            self._literal()
            while self._took(","):
                self._literal()
            self._expect("]")
        elif self._next[0] in ("text", "number") or self._next[1] in ("true", "false"):
            self._literal()
            self._behind()
        elif self._next[0] == "name":
            self._named()
        else:
            raise CelError(f"lacks a value before {self._next[1] or 'its end'!r}")
        self._depth -= 1

    def _literal(self) -> str:
        kind, word = self._take()
        if kind == "number" and "." not in word and not -(1 << 63) <= int(word) < 1 << 63:
            raise CelError(f"{word} is too large a number")
        if kind not in ("text", "number") and word not in ("true", "false"):
            raise CelError(f"needs a text or a number in place of {word!r}")
        return word

    def _named(self) -> None:
        name = self._take()[1]
        path, _, method = name.rpartition(".")
        if self._next[1] == "(":
            if path:
                self._attribute(path)
                self._call(method)
                self._behind()
            else:
                self._function(name)
            return
        self._attribute(name)
        self._behind()

    def _function(self, name: str) -> None:
        self._expect("(")
        match name:
            case "has":
                kind, word = self._take()
                if kind != "name" or "." not in word:
                    raise CelError("has(...) takes a member of something, such as has(response.code)")
                self._attribute(word)
            case "duration":
                kind, word = self._take()
                if kind != "text" or not _DURATION.fullmatch(_plain(word)):
                    raise CelError("duration(...) takes a text such as '1.5s'")
            case "size" | "int":
                self._value()
            case _:
                raise CelError(f"function {name} is not supported; has, size, int and duration are")
        self._expect(")")

    def _behind(self) -> None:
        """Members in brackets, and calls of methods."""
        for _ in range(_DEEPEST):
            if self._took("["):
                self._literal()
                self._expect("]")
            elif self._took("."):
                kind, word = self._take()
                if kind != "name" or "." in word:
                    raise CelError(f"{word!r} cannot stand behind a dot here")
                self._call(word)
            else:
                return
        raise CelError(f"has more than {_DEEPEST} members behind one another")

    def _call(self, method: str) -> None:
        self._expect("(")
        if method in _TEXT_METHODS:
            kind, word = self._take()
            if kind != "text":
                raise CelError(f"{method}(...) takes a text in quotes")
            if method == "matches":
                try:
                    compile_expression(_plain(word))
                except ExpressionError as error:
                    raise CelError(str(error)) from None
        elif method != "size":
            raise CelError(f"method {method} is not supported; size, {', '.join(_TEXT_METHODS)} are")
        self._expect(")")

    def _attribute(self, name: str) -> None:
        if name.count(".") > _DEEPEST:
            raise CelError(f"has more than {_DEEPEST} members behind one another")
        root, _, rest = name.partition(".")
        if root not in ATTRIBUTES:
            raise CelError(f"{name} is no attribute; they are of {', '.join(ATTRIBUTES)}")
        known, member = ATTRIBUTES[root], rest.partition(".")
        if known is None:
            return
        if not member[0] or member[0] not in known:
            raise CelError(f"{name} is no attribute; {root} has {', '.join(known)}")
        if member[1] and f"{root}.{member[0]}" not in _MAPS:
            raise CelError(f"{root}.{member[0]} has no members, so {name} is no attribute")

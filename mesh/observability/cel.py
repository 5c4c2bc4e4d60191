"""CEL, as far as it is read: filters of access logs, and single attributes as values of labels. Envoy
evaluates the filters of what it logs; `compiled` is for what no Envoy sees.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache

from mesh.expression import ExpressionError, compile_expression


class Duration(int):
    """Nanoseconds."""


class Time(int):
    """Nanoseconds since the epoch."""


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


#: A value of CEL, and what there is of each attribute that has one, by name such as `source.port`.
Value = str | bool | int | float | Duration | Time | Sequence["Value"] | Mapping[str, "Value"]
Attributes = Mapping[str, Value]
_Evaluation = Callable[[Attributes], Value]


class CelError(ValueError):
    """What is wrong with an expression, or with a value, in words."""


class _Abandoned(Exception):
    """Envoy gives the whole evaluation up, whatever stands beside it: `matches` of what is no text."""


def check(text: str) -> None:
    """Raises CelError unless Envoy would take the expression and its attributes exist."""
    _parsed(text)


@lru_cache(maxsize=256)
def compiled(text: str) -> Callable[[Attributes], bool]:
    """What tells whether an expression that was checked keeps what has these attributes. As Envoy does, it
    keeps nothing where the value is an error, such as of an attribute that is not there."""
    evaluate = _parsed(text)

    def keeps(attributes: Attributes) -> bool:
        try:
            return evaluate(attributes) is True
        except (CelError, _Abandoned):
            return False

    return keeps


def _parsed(text: str) -> _Evaluation:
    if len(text) > _LONGEST:
        raise CelError(f"has {len(text)} characters; at most {_LONGEST} are allowed")
    return _Parser(list(_tokens(text))).whole()


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
    """By recursive descent; each method takes what it is named after and makes what evaluates it, and raises
    CelError."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        if len(tokens) > _MOST_TOKENS:
            raise CelError(f"has more than {_MOST_TOKENS} words")
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def whole(self) -> _Evaluation:
        found = self._expression()
        if self._next[0] != "end":
            raise CelError(f"has {self._next[1]!r} where it should end or go on with && or ||")
        return found

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

    def _expression(self) -> _Evaluation:
        parts = [self._all()]
        while self._took("||"):
            parts.append(self._all())
        return _joined(parts, True)

    def _all(self) -> _Evaluation:
        parts = [self._comparison()]
        while self._took("&&"):
            parts.append(self._comparison())
        return _joined(parts, False)

    def _comparison(self) -> _Evaluation:
        left, sign = self._value(), self._next[1]
        return _compared(left, sign, self._value()) if self._took(*_COMPARING) else left

    def _value(self) -> _Evaluation:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise CelError(f"is nested more than {_DEEPEST} deep")
        if self._took("!"):
            if self._next[1] == "!":
                raise CelError("says ! twice")
            found = _opposite(self._value())
        elif self._took("("):
            found = self._expression()
            self._expect(")")
        elif self._took("["):
            values = [self._literal()]
            while self._took(","):
                values.append(self._literal())
            self._expect("]")
            found = _constant(values)
        elif self._next[0] in ("text", "number") or self._next[1] in ("true", "false"):
            found = self._behind(_constant(self._literal()))
        elif self._next[0] == "name":
            found = self._named()
        else:
            raise CelError(f"lacks a value before {self._next[1] or 'its end'!r}")
        self._depth -= 1
        return found

    def _literal(self) -> Value:
        kind, word = self._take()
        if kind == "number" and "." not in word and not -(1 << 63) <= int(word) < 1 << 63:
            raise CelError(f"{word} is too large a number")
        if kind == "text":
            return _plain(word)
        if kind == "number":
            return float(word) if "." in word else int(word)
        if word not in ("true", "false"):
            raise CelError(f"needs a text or a number in place of {word!r}")
        return word == "true"

    def _named(self) -> _Evaluation:
        name = self._take()[1]
        path, _, method = name.rpartition(".")
        if self._next[1] == "(":
            return self._behind(self._call(method, self._attribute(path))) if path else self._function(name)
        return self._behind(self._attribute(name))

    def _function(self, name: str) -> _Evaluation:
        self._expect("(")
        match name:
            case "has":
                kind, word = self._take()
                if kind != "name" or "." not in word:
                    raise CelError("has(...) takes a member of something, such as has(response.code)")
                found = _present(self._attribute(word))
            case "duration":
                kind, word = self._take()
                if kind != "text" or not _DURATION.fullmatch(_plain(word)):
                    raise CelError("duration(...) takes a text such as '1.5s'")
                found = _constant(_duration(_plain(word)))
            case "size" | "int":
                found = _sized(self._value()) if name == "size" else _whole_number(self._value())
            case _:
                raise CelError(f"function {name} is not supported; has, size, int and duration are")
        self._expect(")")
        return found

    def _behind(self, found: _Evaluation) -> _Evaluation:
        """Members in brackets, and calls of methods."""
        for _ in range(_DEEPEST):
            if self._took("["):
                found = _member(found, self._literal())
                self._expect("]")
            elif self._took("."):
                kind, word = self._take()
                if kind != "name" or "." in word:
                    raise CelError(f"{word!r} cannot stand behind a dot here")
                found = self._call(word, found)
            else:
                return found
        raise CelError(f"has more than {_DEEPEST} members behind one another")

    def _call(self, method: str, of: _Evaluation) -> _Evaluation:
        self._expect("(")
        found = _sized(of)
        if method in _TEXT_METHODS:
            kind, word = self._take()
            if kind != "text":
                raise CelError(f"{method}(...) takes a text in quotes")
            found = _asked(of, method, _question(method, _plain(word)))
        elif method != "size":
            raise CelError(f"method {method} is not supported; size, {', '.join(_TEXT_METHODS)} are")
        self._expect(")")
        return found

    def _attribute(self, name: str) -> _Evaluation:
        if name.count(".") > _DEEPEST:
            raise CelError(f"has more than {_DEEPEST} members behind one another")
        root, _, rest = name.partition(".")
        if root not in ATTRIBUTES:
            raise CelError(f"{name} is no attribute; they are of {', '.join(ATTRIBUTES)}")
        known, member = ATTRIBUTES[root], rest.partition(".")
        if known is None:
            return _looked_up(name)
        if not member[0] or member[0] not in known:
            raise CelError(f"{name} is no attribute; {root} has {', '.join(known)}")
        if member[1] and f"{root}.{member[0]}" not in _MAPS:
            raise CelError(f"{root}.{member[0]} has no members, so {name} is no attribute")
        return _looked_up(name)


def _constant(value: Value) -> _Evaluation:
    return lambda attributes: value


def _looked_up(name: str) -> _Evaluation:
    """An attribute, or a member of one that is a map."""
    words = name.split(".")

    def evaluate(attributes: Attributes) -> Value:
        for count in range(len(words), 0, -1):
            found = attributes.get(".".join(words[:count]))
            for word in words[count:]:
                found = found.get(word) if isinstance(found, Mapping) else None
            if found is not None:
                return found
        raise CelError(f"{name} is not there")

    return evaluate


def _present(of: _Evaluation) -> _Evaluation:
    def evaluate(attributes: Attributes) -> Value:
        try:
            of(attributes)
        except CelError:
            return False
        return True

    return evaluate


def _joined(parts: list[_Evaluation], decides: bool) -> _Evaluation:
    """`||` (which true decides) or `&&` of several: what decides does so beside an error too."""
    if len(parts) == 1:
        return parts[0]

    def evaluate(attributes: Attributes) -> Value:
        failed = None
        for part in parts:
            try:
                found = _boolean(part(attributes))
            except CelError as error:
                failed = error
                continue
            if found is decides:
                return decides
        if failed is not None:
            raise failed
        return not decides

    return evaluate


def _opposite(of: _Evaluation) -> _Evaluation:
    return lambda attributes: not _boolean(of(attributes))


def _boolean(value: Value) -> bool:
    if not isinstance(value, bool):
        raise CelError(f"{value!r} is neither true nor false")
    return value


def _compared(left: _Evaluation, sign: str, right: _Evaluation) -> _Evaluation:
    def evaluate(attributes: Attributes) -> Value:
        one, other = left(attributes), right(attributes)
        match sign:
            case "==":
                return _equal(one, other)
            case "!=":
                return not _equal(one, other)
            case "in":
                if isinstance(other, Mapping):
                    return one in other if isinstance(one, str) else False
                if isinstance(other, list):
                    return any(_equal(one, member) for member in other)
                raise CelError(f"nothing is in {other!r}")
        kinds = _kind(one), _kind(other)
        if kinds[0] != kinds[1] or kinds[0] in (list, dict):
            raise CelError(f"{one!r} and {other!r} have no order")
        below: bool = one < other  # type: ignore[operator]
        same = one == other
        return {"<": below, "<=": below or same, ">": not below and not same, ">=": not below}[sign]

    return evaluate


def _equal(one: Value, other: Value) -> bool:
    return _kind(one) is _kind(other) and one == other


def _kind(value: Value) -> type:
    """Numbers are one kind, whatever they are made of."""
    if isinstance(value, (bool, Duration, Time, str)):
        return type(value)
    return float if isinstance(value, (int, float)) else dict if isinstance(value, Mapping) else list


def _sized(of: _Evaluation) -> _Evaluation:
    def evaluate(attributes: Attributes) -> Value:
        value = of(attributes)
        if isinstance(value, (bool, int, float)):
            raise CelError(f"{value!r} has no size")
        return len(value)

    return evaluate


def _whole_number(of: _Evaluation) -> _Evaluation:
    def evaluate(attributes: Attributes) -> Value:
        value = of(attributes)
        if isinstance(value, Time):
            return value // 10**9
        if isinstance(value, Duration) or not isinstance(value, (str, int, float)):
            raise CelError(f"{value!r} is no number")
        if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,19}", value):
            raise CelError(f"{value!r} is no number")
        return int(value)

    return evaluate


def _member(of: _Evaluation, key: Value) -> _Evaluation:
    def evaluate(attributes: Attributes) -> Value:
        value = of(attributes)
        if isinstance(value, Mapping) and isinstance(key, str) and key in value:
            return value[key]
        raise CelError(f"{key!r} is not there")

    return evaluate


def _question(method: str, word: str) -> Callable[[str], bool]:
    match method:
        case "startsWith":
            return lambda text: text.startswith(word)
        case "endsWith":
            return lambda text: text.endswith(word)
        case "contains":
            return lambda text: word in text
    try:
        return compile_expression(word).occurs
    except ExpressionError as error:
        raise CelError(str(error)) from None


def _asked(of: _Evaluation, method: str, question: Callable[[str], bool]) -> _Evaluation:
    def evaluate(attributes: Attributes) -> Value:
        try:
            value = of(attributes)
            if not isinstance(value, str):
                raise CelError(f"{value!r} is no text")
        except CelError:
            if method == "matches":
                raise _Abandoned from None
            raise
        return question(value)

    return evaluate


_UNITS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def _duration(text: str) -> Duration:
    number = text.rstrip("hmsun")
    return Duration(Decimal(number) * _UNITS[text[len(number) :]])

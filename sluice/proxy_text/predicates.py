"""Which connections a filter chain takes, in istioctl's words: the match of the chain itself, or a branch of
the listener's matcher. Listeners of classes choose by a matcher, whose branches are asked in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sluice.proxy_text.dump import Data

ALL = "ALL"

#: Protocols as the HTTP inspector finds them, and istioctl's name for all of them together.
_HTTP = ("http/1.0", "http/1.1", "h2c")
_LABELS = {
    "destination_ip": "Addr",
    "source_ip": "Source",
    "transport_protocol": "Trans",
    "application_protocol": "App",
    "server_name": "SNI",
}


def chain_match(chain: Data) -> str:
    """Such as `Trans: tls; Addr: 10.128.0.4/32:80`."""
    match = chain.get("filter_chain_match", {})
    port = f":{match['destination_port']}" if "destination_port" in match else ""
    said = [
        _said("SNI", match.get("server_names", ())),
        _said("Trans", filter(None, [match.get("transport_protocol")])),
        _said("App", _protocols(match.get("application_protocols", ()))),
        _said("Source", _blocks(match.get("source_prefix_ranges", ()))),
    ]
    blocks = ",".join(_blocks(match.get("prefix_ranges", ())))
    said.append(f"Addr: {blocks or '*'}{port}" if blocks or port else "")
    return "; ".join(filter(None, said)) or ALL


def branches(matcher: Data) -> Iterator[tuple[str, str]]:
    """The match of each branch and its filter chain or cluster; the last one takes what is left."""
    for branch in matcher.get("matcher_list", {}).get("matchers", ()):
        yield predicate(branch["predicate"]), branch["on_match"]["action"]["name"]
    if "on_no_match" in matcher:
        yield ALL, matcher["on_no_match"]["action"]["name"]


def predicate(data: Data) -> str:
    """Conjunctions stand side by side, `a; b`; alternatives in brackets, `(a | b)`."""
    match data:
        case {"single_predicate": single}:
            return _single(single)
        case {"and_matcher": {"predicate": parts}}:
            return "; ".join(map(predicate, parts))
        case {"or_matcher": {"predicate": parts}}:
            return _protocols_alone(parts) or f"({' | '.join(map(predicate, parts))})"
        case {"not_matcher": part}:
            return f"not ({predicate(part)})"
    return f"unknown predicate {', '.join(data)}"


def _single(single: Data) -> str:
    name = single["input"]["name"]
    custom = single.get("custom_match", {}).get("typed_config")
    if custom and "modulo" in custom:
        values = [f"hash % {custom['modulo']} >= {custom['threshold']}"]
    elif custom:
        values = _blocks(custom.get("cidr_ranges", ()))
    else:
        values = [_text(single["value_match"])]
    return _said(_LABELS.get(name, name), values)


def _text(match: Data) -> str:
    """An envoy.type.matcher.v3.StringMatcher."""
    if "safe_regex" in match:
        return str(match["safe_regex"]["regex"])
    kind, text = next(((kind, text) for kind, text in match.items() if kind != "ignore_case"), ("exact", ""))
    return {"exact": f"{text}", "prefix": f"{text}*", "suffix": f"*{text}"}.get(kind, f"{kind} {text}").strip(
        "'"
    )


def _protocols_alone(parts: Iterable[Data]) -> str:
    """Alternatives that all look at the protocol are one list of protocols."""
    said = [predicate(part) for part in parts]
    if not all(text.startswith("App: ") for text in said):
        return ""
    return _said("App", _protocols([text.removeprefix("App: ") for text in said]))


def _protocols(found: Iterable[str]) -> list[str]:
    protocols = list(found)
    return ["HTTP"] if tuple(protocols) == _HTTP else protocols


def _blocks(ranges: Iterable[Data]) -> list[str]:
    # A length of zero is a wrapped zero, which Envoy prints, or none.
    return [f"{found['address_prefix']}/{found.get('prefix_len', 0)}" for found in ranges]


def _said(label: str, values: Iterable[str]) -> str:
    text = ",".join(values)
    return f"{label}: {text}" if text else ""

"""What a routing rule does to requests, in words and by the field that says it. Decides nothing: the model
knows what is done, `mesh.answers.steering_table` where.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mesh.answers.steering_table import Row, row_of
from mesh.model import (
    CorsPolicy,
    DirectResponse,
    Fault,
    HeaderChange,
    Mirror,
    Redirect,
    Retries,
    Rewrite,
    RouteBackend,
    RouteRule,
)
from mesh.proxy import RouteEntry
from mesh.routes.origin_pattern import written

#: Shares are millionths of the requests.
ALL = 1_000_000

#: How a VirtualService calls it, and how routes of the Gateway API do.
_FIELDS: Mapping[str, tuple[str, str]] = {
    "shares": ("route", "backendRefs"),
    "redirect": ("redirect", "filters"),
    "direct": ("directResponse", "filters"),
    "rewrite": ("rewrite", "filters"),
    "headers": ("headers", "filters"),
    "fault": ("fault", "filters"),
    "mirrors": ("mirror", "filters"),
    "cors": ("corsPolicy", "filters"),
    "timeout": ("timeout", "timeouts"),
    "retries": ("retries", "retry"),
}


@dataclass(frozen=True, slots=True)
class Effect:
    """`field` of the route's object, such as `http[0].fault`; `row` says where it takes effect."""

    field: str
    text: str
    row: Row


def effects(entry: RouteEntry) -> Iterator[Effect]:
    """All that an entry does but to send requests to one backend as they are."""
    kind, rule = entry.origin.kind, entry.rule
    for what, text in _told(rule, kind):
        # A delegate's rule stands behind the one that names it.
        own = rule.field.rpartition(" ")[2]
        name = _FIELDS[what][0 if kind == "VirtualService" else 1]
        row = row_of(kind, f"{own}.{name}")
        assert row is not None, (kind, name)
        yield Effect(f"{rule.field}.{name}", text, row)


def _told(rule: RouteRule, kind: str) -> Iterator[tuple[str, str]]:
    if rule.redirect:
        yield "redirect", _redirect(rule.redirect)
    if rule.direct:
        yield "direct", _direct(rule.direct)
    if len([backend for backend in rule.backends if backend.weight]) > 1:
        yield "shares", _shares(rule.backends)
    if rule.fault:
        yield "fault", _fault(rule.fault)
    if rule.rewrite:
        yield "rewrite", _rewrite(rule.rewrite)
    changes = [(rule.request_headers, rule.response_headers)]
    changes += [(backend.request_headers, backend.response_headers) for backend in rule.backends]
    if text := _headers(changes):
        yield "headers", text
    for mirror in rule.mirrors:
        yield "mirrors", _mirror(mirror)
    if rule.timeout_ms or rule.backend_timeout_ms:
        yield "timeout", _timeout(rule)
    if rule.retries:
        yield "retries", _retries(rule.retries)
    if rule.cors:
        yield "cors", _cors(rule.cors, kind)


def _shares(backends: tuple[RouteBackend, ...]) -> str:
    total = sum(backend.weight for backend in backends)
    parts = (f"{b.weight / total:.0%} to {_target(b)}" for b in backends if b.weight)
    return f"{', '.join(parts)}: chosen for each request, so that an Envoy must"


def _redirect(redirect: Redirect) -> str:
    parts = (("scheme", redirect.scheme), ("host", redirect.hostname), ("port", redirect.port))
    said = [f"{name} {value}" for name, value in parts if value is not None]
    said += [f"path {redirect.path.value}"] if redirect.path else []
    return f"answers {redirect.status} itself, a redirect to {', '.join(said) or 'the same place'}"


def _direct(direct: DirectResponse) -> str:
    return f"answers {direct.status} itself; no backend is asked"


def _fault(fault: Fault) -> str:
    parts = []
    if fault.delayed:
        parts.append(f"delays {_percent(fault.delayed)} by {_time(fault.delay_ms)}")
    if fault.aborted:
        status = f"gRPC status {fault.grpc_status}" if fault.grpc_status is not None else fault.status
        parts.append(f"answers {_percent(fault.aborted)} with {status} itself")
    return ", ".join(parts)


def _rewrite(rewrite: Rewrite) -> str:
    parts = [f"host becomes {rewrite.hostname}"] if rewrite.hostname else []
    if rewrite.path:
        what = {"full": "path", "regex": "what fits of the path"}.get(rewrite.path.kind, "matched prefix")
        parts.append(f"{what} becomes {rewrite.path.value}")
    return ", ".join(parts)


def _headers(changes: list[tuple[HeaderChange, HeaderChange]]) -> str:
    sides = zip(("requests", "responses"), zip(*changes, strict=True), strict=True)
    found = [side for side, said in sides if any(change != HeaderChange() for change in said)]
    return f"changes headers of {' and '.join(found)}" if found else ""


def _mirror(mirror: Mirror) -> str:
    return f"sends a copy of {_percent(mirror.share)} to {_target(mirror)}, whose answers nobody waits for"


def _timeout(rule: RouteRule) -> str:
    whole = f"gives up after {_time(rule.timeout_ms)}: 504" if rule.timeout_ms else ""
    each = f"each attempt has {_time(rule.backend_timeout_ms)}" if rule.backend_timeout_ms else ""
    return ", ".join(filter(None, (whole, each)))


def _retries(retries: Retries) -> str:
    if not retries.attempts:
        return "nothing is tried again"
    on = ", ".join((*retries.on, *map(str, retries.statuses)))
    each = f", {_time(retries.per_try_ms)} each" if retries.per_try_ms else ""
    return f"up to {retries.attempts} more attempts on {on}{each}"


def _cors(cors: CorsPolicy, kind: str) -> str:
    """A VirtualService's expressions are the user's own, those of the Gateway API were made of wildcards."""
    origins = (o.value if kind == "VirtualService" else written(o.value) for o in cors.origins)
    return f"answers preflights of {', '.join(origins) or 'no origin'}"


def _target(target: RouteBackend | Mirror) -> str:
    if target.service is None:
        return "nobody"
    return f"{target.service}:{target.port}" + (f" subset {target.subset}" if target.subset else "")


def _percent(millionths: int) -> str:
    return f"{millionths / ALL:.4%}".rstrip("%").rstrip("0").rstrip(".") + "%"


def _time(ms: int) -> str:
    return f"{ms} ms" if ms % 1000 else f"{ms // 1000} s"

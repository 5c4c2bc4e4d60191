"""HTTPRoute of a VirtualService: one rule about requests.

It answers in one of four ways: it sends them on (`route`), redirects, responds, or leaves the matter to
another VirtualService (`delegate`). Header changes of the route and of a destination come in the order in
which Istio makes Envoy apply them: of several destinations each one's first, of a single one its last.
"""

from __future__ import annotations

from istio_integration.destinations import destination, mirrors, weights
from istio_integration.duration import duration_ms
from istio_integration.headers import Headers, read_headers
from istio_integration.http_answers import direct_response, redirect
from istio_integration.http_cors import cors
from istio_integration.http_faults import fault
from istio_integration.http_match import http_match
from istio_integration.http_retries import retries
from istio_integration.http_rewrite import rewrite
from mesh.dialects.reading import Fields, Reader
from mesh.dialects.syntax import name, printable
from mesh.model import HeaderChange, ObjectRef, RouteBackend, RouteMatch, RouteRule

ANSWERS = ("route", "redirect", "directResponse", "delegate")
HTTP_ROUTE = Fields(
    (
        "name",
        "match",
        *ANSWERS,
        "rewrite",
        "timeout",
        "retries",
        "fault",
        "mirror",
        "mirrors",
        "mirrorPercentage",
        "mirrorPercent",
        "corsPolicy",
        "headers",
    )
)
HTTP_DESTINATION = Fields(("destination", "weight", "headers"))
DELEGATE = Fields(("name", "namespace"))

#: The answer to a share whose destination cannot be reached.
_LOST = 503


def http_rule(item: Reader, delegated: bool) -> RouteRule:
    """`delegated` is one of a VirtualService without hosts."""
    item.fields(HTTP_ROUTE)
    printable(item.at("name"), 253)
    _one_answer(item, delegated)
    matches = tuple(http_match(match) for match in item.at("match").items()) or (RouteMatch(),)
    headers = read_headers(item.at("headers"))
    backends, authority = _backends(item.at("route"), headers)
    redirected, responded = item.at("redirect"), item.at("directResponse")
    changed = rewrite(item.at("rewrite"), headers.authority, authority)
    written = item.at("rewrite").at("authority").present
    return RouteRule(
        field=item.rule_field,
        matches=matches,
        backends=backends,
        request_headers=HeaderChange() if backends else headers.request,
        response_headers=HeaderChange() if backends else headers.response,
        redirect=redirect(redirected, matches) if redirected.present else None,
        rewrite=changed,
        direct=direct_response(responded) if responded.present else None,
        timeout_ms=duration_ms(item.at("timeout")),
        retries=retries(item.at("retries")),
        fault=fault(item.at("fault")),
        mirrors=mirrors(item),
        cors=cors(item.at("corsPolicy")),
        delegate=_delegate(item.at("delegate")),
        says_headers=item.at("headers").present,
        by_headers=changed is not None and changed.hostname is not None and not written,
        lost=_LOST,
    )


def _one_answer(item: Reader, delegated: bool) -> None:
    said = [field for field in ANSWERS if item.at(field).present and item.at(field).value != []]
    if not said and item.sound:
        item.refuse(f"answers nothing: write one of {', '.join(ANSWERS)}")
    for field in said[1:]:
        item.at(field).refuse(f"cannot stand beside {said[0]}: write one of them")
    if said and said[0] in ("redirect", "directResponse"):
        for field in ("fault", "rewrite"):
            if item.at(field).present:
                item.at(field).refuse(f"cannot stand beside {said[0]}, which answers at once")
        for field in ("timeout", "retries", "mirror", "mirrors"):
            if item.at(field).present:
                item.at(field).note(f"has no effect beside {said[0]}, which answers at once")
    if delegated and "delegate" in said:
        item.at("delegate").refuse(
            "cannot stand in a VirtualService without hosts, which is a delegate itself"
        )


def _backends(group: Reader, route: Headers) -> tuple[tuple[RouteBackend, ...], str | None]:
    """The destinations with all their header changes, and what the only one makes of the authority."""
    items = [item.fields(HTTP_DESTINATION) for item in group.items()]
    authority = None
    found = []
    for item, weight in zip(items, weights(group, items), strict=True):
        to, own = destination(item.at("destination")), read_headers(item.at("headers"))
        first, last = (route, own) if len(items) == 1 else (own, route)
        found.append(
            RouteBackend(
                to.service,
                to.port,
                weight,
                first.request.then(last.request),
                first.response.then(last.response),
                to.subset,
            )
        )
        authority = own.authority
        if authority is not None and len(items) > 1:
            item.at("headers").refuse(
                "changes the authority of one destination among several: write it in rewrite"
            )
    return tuple(found), authority


def _delegate(reader: Reader) -> ObjectRef | None:
    if not reader.fields(DELEGATE).present:
        return None
    reader.at("name").require()
    namespace = name(reader.at("namespace"), reader.ref.namespace, label=True)
    return ObjectRef("VirtualService", namespace, name(reader.at("name")))

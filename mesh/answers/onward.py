"""What a Gateway does with a request that has come in: which host and route take it, and where it goes.

The pod that serves is the caller of the second leg.
"""

from __future__ import annotations

from typing import Any

from mesh.answers import led
from mesh.answers.met import in_mutual_tls, judge
from mesh.answers.reasons import Reason, reason
from mesh.answers.steering_table import CALLER
from mesh.assemble import Mesh
from mesh.model import Backend, Protocol, RouteMatch, RouteRule
from mesh.policies.registry import Registries
from mesh.proxy import GatewayPort, GatewayServer, RouteEntry, VirtualHost
from mesh.request import Request
from mesh.routes import routing
from mesh.routes.gateway_ports import gateway_ports
from mesh.routes.host_pattern import covers, narrowest


def onward(
    mesh: Mesh, registries: Registries, served: Backend, protocol: Protocol, request: Request | None
) -> dict[str, Any] | None:
    """Ready for JSON; None where no Gateway is served. Who asks for TLS is taken to name the host of the
    request."""
    pod = served.workload
    ports = gateway_ports(mesh, pod) if pod else ()
    port = next((port for port in ports if _is_at(port, served, protocol)), None)
    if pod is None or port is None:
        return None
    reasons: list[Reason] = []
    entry, status = _taken(port, request, reasons)
    if entry is None:
        answer: dict[str, Any] = {"pod": str(pod), "reasons": reasons, "backends": []}
        return answer if status is None else answer | {"status": status}
    caller = mesh.workloads[pod]
    reasons += led.told(entry)
    asked: dict[Backend, Request] = {}
    shares, status = led.destinations(mesh, caller, [entry], request, asked, reasons)
    begun = in_mutual_tls(mesh, caller, entry.targets)
    met = [
        (judge(mesh, registries, caller.addresses, b, protocol, asked.get(b, request), begun), share)
        for b, share in shares
    ]
    for judgement, _ in met:
        reasons += [told for told in judgement.finding.reasons if told not in reasons]
    answer = {"pod": str(pod), "reasons": reasons, "backends": [one.plain(share) for one, share in met]}
    return answer if status is None else answer | {"status": status}


def _is_at(port: GatewayPort, served: Backend, protocol: Protocol) -> bool:
    return (port.port, port.transport) == (served.port, protocol) and port.bind in ("", served.address)


def _taken(
    port: GatewayPort, request: Request | None, reasons: list[Reason]
) -> tuple[RouteEntry | None, int | None]:
    """The entry that takes a request, or the status that answers it; of whole connections the only one."""
    names = ", ".join(sorted({str(origin) for server in port.servers for origin in server.origins}))
    if all(not server.http for server in port.servers):
        found = [entry for server in port.servers for entry in server.connections]
        if len(found) != 1:
            reasons.append(reason(names, "", "what the hello of TLS asks for decides", CALLER))
            return None, None
        rule = RouteRule(found[0].rule.field, (), found[0].rule.backends)
        return RouteEntry(found[0].origin, RouteMatch(), rule), None
    if request is None or not request.authority:
        reasons.append(reason(names, "", "what a request asks for decides: say its host and path", CALLER))
        return None, None
    host = request.authority.rpartition(":")[0] if _has_port(request.authority) else request.authority
    host = host.lower().strip("[]")
    server = _server(port, host)
    chosen = _host(server, host) if server else None
    if server is None or chosen is None:
        reasons.append(reason(names, "", f"no route is for host {host}: 404", CALLER))
        return None, 404
    if chosen.https_redirect:
        reasons.append(reason(names, "", "sends plain HTTP to https: 301", CALLER))
        return None, 301
    entry = routing.choose(chosen.entries, request)
    if entry is None:
        routes = sorted({str(one.origin) for one in chosen.entries}) or [names]
        reasons.append(reason(", ".join(routes), "rules", "no rule matches: 404", CALLER))
        return None, 404
    return entry, None


def _has_port(authority: str) -> bool:
    return authority.rpartition(":")[2].isdigit() and not authority.endswith("]")


def _server(port: GatewayPort, host: str) -> GatewayServer | None:
    """In TLS by the name that is asked for."""
    named = {name: server for server in port.servers if server.http for name in server.server_names or ("*",)}
    fitting = [name for name in named if covers(name, host)]
    return named[narrowest(fitting, host)] if fitting else None


def _host(server: GatewayServer, host: str) -> VirtualHost | None:
    known = {one.host: one for one in server.hosts}
    fitting = [name for name in known if covers(name, host)]
    return known[narrowest(fitting, host)] if fitting else None

"""What is wrong between a route and the services and routes that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mesh.aliases import Aliases
from mesh.caller import Caller
from mesh.entry_hosts import EntryHosts, is_entry
from mesh.model import (
    MESH_GATEWAY,
    ConnectionRule,
    DestinationRule,
    ObjectRef,
    Problem,
    Route,
    RouteRule,
    Secret,
    Service,
    ServiceName,
    TrustBundle,
    service_of,
)
from mesh.routes.delegation import why_not
from mesh.routes.destination_rules import DestinationRules


def route_problems(
    route: Route,
    services: Mapping[ServiceName, Service],
    aliases: Aliases,
    hosts: EntryHosts,
    rules: DestinationRules,
    routes: Mapping[ObjectRef, Route],
    root: str,
) -> Iterator[Problem]:
    """Parents, backends, subsets and delegates that are not there, as callers in the route's namespace see
    it. The route is in force for the others."""
    # At a Gateway a host need not be a service's.
    parents = route.parents if route.gateways == (MESH_GATEWAY,) else ()
    for index, parent in enumerate(parents):
        found = services.get(hosts.seen(parent.service, route.ref.namespace))
        where = f"spec.hosts[{index}]" if route.in_order else f"spec.parentRefs[{index}]"
        if parent.service in aliases:
            yield Problem(route.ref, where, _unbound(parent.service, aliases))
        elif found is None:
            yield Problem(route.ref, where, f"there is no {_what(parent.service)}")
        elif all(p.protocol != route.protocol or parent.port not in (None, p.port) for p in found.ports):
            port = "" if parent.port is None else f" {parent.port}"
            text = f"Service {parent.service} has no {route.protocol} port{port}"
            yield Problem(route.ref, f"{where}.port", text)
    for rule in route.all_rules:
        yield from _of_rule(route, rule, services, aliases, hosts)
        yield from _subsets(route, rule, services, aliases, hosts, rules, root)
    for connections in route.connections:
        yield from _tunnels(route, connections, aliases, hosts, rules, root)
    for rule in route.rules:
        if rule.delegate is not None:
            yield from _delegate(route, rule, rule.delegate, routes)


def _of_rule(
    route: Route,
    rule: RouteRule | ConnectionRule,
    services: Mapping[ServiceName, Service],
    aliases: Aliases,
    hosts: EntryHosts,
) -> Iterator[Problem]:
    listed = "route" if route.in_order else "backendRefs"
    lost = f"its share answers {rule.lost}" if isinstance(rule, RouteRule) else "its share is refused"
    for index, backend in enumerate(rule.backends):
        if backend.service is None:
            continue
        meant = aliases.sent_to(route, backend.service)
        found = services.get(hosts.seen(meant, route.ref.namespace))
        where = f"spec.{rule.field}.{listed}[{index}]"
        if found is None:
            yield Problem(route.ref, where, f"{_missing(route, backend.service, aliases)}; {lost}")
        elif backend.port and not found.has_port(backend.port, route.protocol):
            text = f"Service {meant} has no {route.protocol} port {backend.port}; {lost}"
            yield Problem(route.ref, f"{where}.port", text)
    for mirror in rule.mirrors if isinstance(rule, RouteRule) else ():
        if mirror.service is None:
            continue
        meant = aliases.sent_to(route, mirror.service)
        if hosts.seen(meant, route.ref.namespace) not in services:
            text = f"{_missing(route, mirror.service, aliases)}; copies of requests go nowhere"
            yield Problem(route.ref, f"spec.{rule.field}", text)


def _subsets(
    route: Route,
    rule: RouteRule | ConnectionRule,
    services: Mapping[ServiceName, Service],
    aliases: Aliases,
    hosts: EntryHosts,
    rules: DestinationRules,
    root: str,
) -> Iterator[Problem]:
    """Of services that are there."""
    for target in rule.targets:
        if target.service is None or not target.subset:
            continue
        own = route.ref.namespace
        meant = aliases.sent_to(route, target.service)
        if (seen := hosts.seen(meant, own)) not in services:
            continue
        found = rules.find(Caller(own), seen, root)
        if found is None or all(subset.name != target.subset for subset in found.subsets):
            by = f"DestinationRule {found.ref.namespace}/{found.ref.name}" if found else "a DestinationRule"
            text = f"there is no subset {target.subset} of {meant.host}: {by} must define it"
            yield Problem(route.ref, f"spec.{rule.field}", text)


def _tunnels(
    route: Route,
    rule: ConnectionRule,
    aliases: Aliases,
    hosts: EntryHosts,
    rules: DestinationRules,
    root: str,
) -> Iterator[Problem]:
    own = route.ref.namespace
    found = set()
    for backend in rule.backends:
        if backend.service is not None and backend.weight:
            seen = hosts.seen(aliases.sent_to(route, backend.service), own)
            policies = rules.find(Caller(own), seen, root)
            found.add(policies.policy_for(backend.subset, backend.port).tunnel if policies else None)
    if len(found) > 1:
        text = "have different tunnels, and a connection has one: which differ from the first get nothing"
        yield Problem(route.ref, f"spec.{rule.field}.route", f"its destinations {text}")


def _delegate(
    route: Route, rule: RouteRule, ref: ObjectRef, routes: Mapping[ObjectRef, Route]
) -> Iterator[Problem]:
    where = f"spec.{rule.field}.delegate"
    delegate = routes.get(ref)
    if delegate is None:
        yield Problem(route.ref, f"{where}.name", f"there is no {ref}; the rule has no effect")
    elif why := why_not(route, delegate):
        yield Problem(route.ref, where, f"the rule has no effect: {why}")


def rule_problems(
    rule: DestinationRule, aliases: Aliases, credentials: Mapping[ObjectRef, Secret | TrustBundle]
) -> Iterator[Problem]:
    """What is wrong between a DestinationRule, the service that is its host and the Secrets that it names."""
    host = service_of(rule.host)
    if host and host in aliases:
        yield Problem(rule.ref, "spec.host", _unbound(host, aliases))
    named = {policy.tls.credential for policy in rule.policies if policy.tls} - {""}
    for name in sorted(named) if rule.callers else ():
        ref = ObjectRef("Secret", rule.ref.namespace, name)
        if ref not in credentials and ref._replace(name=f"{name}-cacert") not in credentials:
            text = f"there is no {ref} with a certificate or authorities; nothing is sent until there is"
            yield Problem(rule.ref, "spec.trafficPolicy.tls.credentialName", text)


def _unbound(alias: ServiceName, aliases: Aliases) -> str:
    """Why a rule about an alias binds nobody."""
    end = aliases.end(alias)
    text = f"Service {alias} is an ExternalName, and no connection shows by which name its address was found"
    return f"{text}: name {end} instead" if end else f"Service {alias} is an ExternalName that leads nowhere"


def _missing(route: Route, service: ServiceName, aliases: Aliases) -> str:
    """That a route has no service to send to."""
    if service not in aliases:
        return f"there is no {_what(service)}"
    end = aliases.end(service)
    if not route.in_order:
        return f"Service {service} is an ExternalName, which cannot be a backend"
    text = f"Service {service} is an ExternalName for {end or 'nothing'}"
    meant = aliases.meant(service)
    if meant == service:
        return text
    return f"{text}, and there is no {_what(meant)}{': write one' if is_entry(meant) else ''}"


def _what(name: ServiceName) -> str:
    return f"ServiceEntry for {name.host}" if is_entry(name) else f"Service {name}"

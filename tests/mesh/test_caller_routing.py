"""What is routed for one caller, kept current, against what it is when it is computed anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.model import ObjectRef, RouteBackend, RouteMatch, RouteRule, ServiceName
from mesh.proxy import RoutedPort, RouteEntry
from mesh.routes.caller_routing import CallerRouting, Ports, Routing

SERVICES = [ServiceName("shop", name) for name in "abcdef"]
ORIGIN = ObjectRef("VirtualService", "shop", "v")


def ports(service: ServiceName, backends: tuple[ServiceName, ...]) -> Ports:
    """One routed port for each backend; nothing is routed without any."""
    match = RouteMatch()
    return tuple(
        RoutedPort(
            service,
            80 + number,
            ("10.0.0.1",),
            (RouteEntry(ORIGIN, match, RouteRule("http[0]", (match,), (RouteBackend(backend, 80),))),),
        )
        for number, backend in enumerate(backends)
    )


CHANGES = st.dictionaries(
    st.sampled_from(SERVICES), st.lists(st.sampled_from(SERVICES), max_size=3).map(tuple), max_size=4
)


@given(st.lists(CHANGES, max_size=8))
def test_it_is_as_if_computed_anew(changes: list[dict[ServiceName, tuple[ServiceName, ...]]]) -> None:
    now: dict[ServiceName, tuple[ServiceName, ...]] = dict.fromkeys(SERVICES[:3], (SERVICES[0],))
    kept = CallerRouting(SERVICES[:3])

    def ask(service: ServiceName) -> Ports:
        return ports(service, now[service])

    for change in [{}, *changes]:
        now |= change
        kept.forget(change)
        routed = [port for service in sorted(now) for port in ask(service)]
        targets = {target for port in routed for target in port.targets}
        found = kept.look(ask)
        keys = (f"{ORIGIN} http[0]",) if routed else ()
        assert found == Routing(tuple(routed), tuple(sorted(targets)), keys)


def test_what_is_asked_for_nothing_is_the_same_object() -> None:
    kept = CallerRouting(SERVICES[:1])
    before = kept.look(lambda service: ports(service, (service,)))
    kept.forget(SERVICES)
    assert kept.look(lambda one: ports(one, (one,) if one is SERVICES[0] else ())) is before

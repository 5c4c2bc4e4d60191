"""Routes as their users write them are followed in the order of their specifications: the specification's own
words, the compiled entries and the real Envoy choose the same rule and backend (threat N15, Istio's first
match). What disagrees is made as small as it gets before it is shown.
"""

from __future__ import annotations

import copy
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.model import ServiceName
from mesh.proxy import ProxyView
from mesh.request import Request
from mesh.request_path import normalise
from mesh.routes.routing import choose, forwarded
from tests.agreement.routes import KINDS, RULE, Object, question
from tests.traffic.shop import Served, Shop, object_of
from tests.xds.render.backend import Backend
from tests.xds.render.client import Client
from tests.xds.render.conftest import folder, servers
from tests.xds.render.standalone import Proxy

__all__ = ["folder", "servers"]

ROUNDS = 4
SERVICES = 20
QUESTIONS = 50

#: The rule, the service of its backend and the path that it reads; None: nobody.
Said = tuple[str, str, str] | None
#: Pod -> the service it stands for.
STANDS_FOR = {"one": "web", "two": "web", "three": "shadow"}


def service(number: int, name: str) -> Object:
    spec = {
        "clusterIP": f"10.128.1.{number}",
        "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
    }
    return object_of("v1", "Service", name, "shop", spec)


def compiled(shop: Shop, name: str, request: Request) -> Said:
    """What the compiled entries say of a request that Envoy has read."""
    port = next(
        (p for p in shop.view().routed if (p.service, p.port) == (ServiceName("shop", name), 80)), None
    )
    entry = choose(port.entries, request) if port else None
    if entry is None:
        return None
    (backend,) = entry.rule.backends
    assert backend.service is not None
    mark = dict((*entry.rule.response_headers.set, *backend.response_headers.set))[RULE]
    return mark, backend.service.name, forwarded(entry, backend, request).path


def answered(client: Client, request: Request) -> Said:
    """What comes back through Envoy."""
    answer = client.ask(request.path, request.method, [("host", request.authority), *request.headers])
    assert answer.status in (200, 404), answer
    if answer.status == 404:
        return None
    return answer.headers[RULE], STANDS_FOR[answer.read["backend"]], answer.read["path"]


def smallest(objects: list[Object], differs: Callable[[list[Object]], bool]) -> list[Object]:
    """Leaves out whatever can be left out, so that they still differ."""
    again = True
    while again:
        again = False
        for place in list(_places(objects)):
            fewer = copy.deepcopy(objects)
            holder: Any = fewer
            for key in place[:-1]:
                holder = holder[key]
            del holder[place[-1]]
            try:
                again = differs(fewer)
            except (AssertionError, LookupError, ValueError):  # not valid any more
                again = False
            if again:
                objects = fewer
                break
    return objects


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in inner:
        yield (*path, key)
        yield from _places(child, (*path, key))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_the_specification_the_model_and_envoy_choose_the_same(
    kind: str, folder: Path, servers: dict[str, Backend], long: bool
) -> None:
    rng = random.Random(f"{kind} 1")
    chosen: Counter[bool] = Counter()
    for _ in range(ROUNDS * (20 if long else 1)):
        cases = {f"s{number}": KINDS[kind][0](rng, f"s{number}") for number in range(SERVICES)}
        with ExitStack() as stack:
            chosen += agree(stack, folder, servers, cases, kind, rng)
    print(kind, dict(chosen))
    assert min(chosen[True], chosen[False]) * 20 >= chosen.total()


def agree(
    stack: ExitStack,
    folder: Path,
    servers: Mapping[str, Backend],
    cases: Mapping[str, list[Object]],
    kind: str,
    rng: random.Random,
) -> Counter[bool]:
    """Asks all three about the routes of each service. Returns how often one was chosen, and none."""

    def serve(view: ProxyView) -> Proxy:
        proxy = Proxy(view, Path(tempfile.mkdtemp(dir=folder)))
        stack.callback(proxy.stop)
        return proxy

    services = {name: service(number, name) for number, name in enumerate(cases)}
    shop = Served(serve, servers, *services.values(), *(found for case in cases.values() for found in case))
    routed = {port.service.name for port in shop.view().routed}
    clients = {name: Client(shop.port(name)) for name in cases if name in routed}
    chosen: Counter[bool] = Counter()
    for _ in range(SERVICES * QUESTIONS):
        name = rng.choice(list(cases))
        request = question(rng, kind == "GRPCRoute")
        path = normalise(request.path)
        assert path is not None
        read = replace(request, path=path)

        def differ(objects: list[Object], name: str = name, read: Request = read) -> bool:
            said = compiled(Shop(services[name], *objects), name, read)
            return KINDS[kind][1](objects, read) != (said[0] if said else None)

        specified, found = KINDS[kind][1](cases[name], read), compiled(shop, name, read)
        assert specified == (found[0] if found else None), (
            f"{read}: {specified} by the specification, {found} by what is compiled of\n"
            f"{yaml.safe_dump_all(smallest(cases[name], differ))}"
        )
        chosen[found is not None] += 1
        if name in clients:
            assert answered(clients[name], request) == found, f"{request}\n{yaml.safe_dump_all(cases[name])}"
    for client in clients.values():
        client.close()
    return chosen

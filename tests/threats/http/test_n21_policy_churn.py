"""N21 (CVE-2024-28248): a request that every version of the policies denies is denied while they change, too,
on connections that are kept and on new ones.
"""

from __future__ import annotations

import threading
from dataclasses import replace

from mesh.model import WorkloadName
from mesh.proxy import ProxyView
from tests.threats.http.application import Application
from tests.threats.http.served import Compiled, Object, network_policy, policy, to
from tests.threats.http.speaking import ask, get
from tests.xds.render.client import Client
from tests.xds.render.conftest import Serve

#: All of them deny /admin.
VERSIONS: list[list[Object]] = [
    [policy("DENY", to(paths=["/admin*"]))],
    [policy("DENY", to(paths=["/admin*"]), to(methods=["PUT"]))],
    [policy("DENY", to(paths=["/admin*", "/x*"])), policy("ALLOW", to(paths=["/public*"]))],
    [policy("ALLOW", to(paths=["/public*"]))],
    [network_policy({"path": "/public.*"})],
    [
        network_policy({"path": "/public.*"}, {"method": "PUT", "path": "/x"}),
        policy("ALLOW", to(paths=["*"])),
    ],
]
CHANGES = 150


def view(objects: list[Object]) -> ProxyView:
    """The class is the same one to Envoy, whatever its number is."""
    (found,) = Compiled(*objects).view.ingress
    return ProxyView(WorkloadName("shop", "api"), ingress=(replace(found, number=300),))


def test_what_is_always_denied_is_denied_while_policies_change(
    serve: Serve, application: Application
) -> None:
    views = [view(objects) for objects in VERSIONS]
    proxy = serve(views[0], ("127.0.0.1", application.port), updated=True)
    port = proxy.ports["virtualInbound|300"]
    over, denied, others = threading.Event(), [0, 0], []

    def kept() -> None:
        client = Client(port)
        while not over.is_set():
            status = client.ask("/admin").status
            denied[0] += status == 403
            if status != 403:
                others.append(status)

    def fresh() -> None:
        while not over.is_set():
            status = ask(port, get("/admin/x"))
            denied[1] += status == 403
            if status != 403:
                others.append(status)

    threads = [threading.Thread(target=target) for target in (kept, kept, fresh, fresh)]
    for thread in threads:
        thread.start()
    try:
        for number in range(CHANGES):
            proxy.update(views[number % len(views)])
            assert ask(port, get("/public")) == 200
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert b"admin" not in application.heard
    assert others == []
    assert min(denied) > CHANGES

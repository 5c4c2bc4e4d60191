"""The six steps of the tour. Each is announced, done with the commands a user would type, and shown."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from sluice.demo.live_mesh import MANIFESTS, Conversation, LiveMesh
from sluice.demo.screen import Screen

STOREFRONT, CATALOG, CART = "shop/storefront", "shop/catalog", "shop/cart"
VISITOR = ("python3", "-m", "sluice.demo.visitor")
ROUND_TRIPS = 400
CANARY_REQUESTS = 400
#: Seconds given to what the mesh does by itself: an Envoy that drains and goes, a process that comes back.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the closing table."""

    step: str
    path: str
    p50_us: int
    envoys: int

    def cells(self) -> tuple[str, str, str, str]:
        return self.step, self.path, f"{self.p50_us:,}", str(self.envoys)


@dataclass(slots=True)
class Tour:
    """Walks through the steps on a mesh and remembers what each one showed."""

    mesh: LiveMesh
    screen: Screen
    rows: list[Row] = field(default_factory=list)

    def run(self) -> None:
        for number, step in enumerate(STEPS, 1):
            title, _, promise = (step.__doc__ or "").partition("\n")
            self.screen.title(f"{number}/{len(STEPS)}  {title}")
            self.screen.say(" ".join(promise.split()))
            step(self)
        self.close()

    def open(self) -> None:
        """Brings the mesh up with the shop in it."""
        self.screen.title("The shop opens")
        self.screen.say(
            "Five services (storefront, catalog, cart, payment, reviews in two versions), each pod a process "
            "with a network namespace and a cgroup of its own."
        )
        with self.screen.doing("starting control plane, agent and six pods"):
            self.mesh.sluice("up", "--detach", "-f", str(MANIFESTS / "shop.yaml"))
            self.mesh.sluice("status", "--wait", quiet=True)
        self.screen.output(self.mesh.sluice("status"))

    # --- the steps ---

    def everything_in_the_kernel(self) -> None:
        """No rule: everything takes the kernel path
        Services are resolved at connect(), by eBPF. No proxy runs anywhere."""
        page = self.visit(STOREFRONT, "request", "storefront.shop", "GET", "/")
        self.screen.see(
            page["status"] == 200, f"the storefront's page, put together of four: {page['status']}"
        )
        self.expect_envoys([])
        self.measure("no rule", STOREFRONT, "catalog", "/products", expected="kernel")

    def refused_by_the_kernel(self) -> None:
        """A NetworkPolicy: refused at connect(), still without a proxy
        Only the cart may reach payment. That needs nothing above L4, so the kernel does it alone."""
        self.mesh.apply("payment.networkpolicy.yaml")
        refused = self.visit(STOREFRONT, "connect", "payment")
        self.screen.see(
            refused["result"] == "EPERM",
            f"storefront -> payment: {refused['result']} after {refused['us']:,} µs, from connect() itself",
        )
        allowed = self.visit(CART, "connect", "payment")
        self.screen.see(allowed["result"] == "connected", f"cart -> payment: {allowed['result']}")
        self.screen.output(self.mesh.flows("--from", STOREFRONT, "--verdict", "DROPPED", "--last", "1"))
        self.expect_envoys([])
        self.measure("L4 policy", CART, "payment", "/charge", expected="kernel")

    def requests_are_judged(self) -> None:
        """An HTTP rule: Envoy appears in the one pod that needs it
        The storefront may only read the catalog. The pods keep running; an open connection obeys too."""
        with self.visitor(STOREFRONT, "hold", "catalog") as held:
            held.hear()
            before = held.say("POST /products")
            self.screen.see(
                before["status"] == 201,
                f"before the rule, on a connection that stays open: POST {before['status']}",
            )
            self.mesh.apply("catalog.ciliumnetworkpolicy.yaml")
            first = held.say("POST /products")
            if first["status"]:
                self.screen.see(first["status"] == 403, f"the same connection: POST {first['status']}")
            else:
                again = held.say("POST /products")
                self.screen.see(
                    again["status"] == 403,
                    f"the open connection had gone past Envoy, so the kernel ended it ({first['error']}); "
                    f"the visitor's next one: POST {again['status']}",
                )
            get = held.say("GET /products")
            self.screen.see(get["status"] == 200, f"then GET on it: {get['status']}")
        self.expect_envoys([CATALOG])
        self.counters(CATALOG, "rbac.(allowed|denied)$")
        self.screen.output(self.mesh.flows("--from", STOREFRONT, "--to", CATALOG, "--last", "3"))
        self.measure("HTTP rule", STOREFRONT, "catalog", "/products", expected="envoy")

    def a_canary(self) -> None:
        """A route: one request in ten goes to the new reviews
        An HTTPRoute on the Service `reviews` binds whoever calls it: each pod gets an Envoy that picks."""
        self.mesh.apply("reviews.httproute.yaml")
        seen = self.visit(CATALOG, "tally", "reviews", "/reviews", CANARY_REQUESTS)["versions"]
        share = seen.get("v2", 0) / CANARY_REQUESTS
        self.screen.see(
            0.03 <= share <= 0.2, f"{CANARY_REQUESTS} requests of the catalog: {seen}, {share:.0%} to v2"
        )
        self.counters(CATALOG, "reviews.*upstream_rq_total$")
        self.screen.say(f"  Envoy runs in: {', '.join(self.mesh.envoys()) or 'no pod'}")
        self.measure("90/10 route", CATALOG, "reviews", "/reviews", expected="envoy")

    def back_to_the_kernel(self) -> None:
        """The rules go: back to the kernel path, and Envoy leaves
        Nothing needs a proxy now. New connections go straight; each Envoy stops once its own have drained."""
        for manifest in ("reviews.httproute.yaml", "catalog.ciliumnetworkpolicy.yaml"):
            self.mesh.delete(manifest)
        post = self.visit(STOREFRONT, "request", "catalog", "POST", "/products")
        self.screen.see(
            post["status"] == 201, f"storefront -> catalog: POST {post.get('error', post['status'])}"
        )
        with self.screen.doing("waiting for the Envoys to drain and go"):
            self.until(lambda: not self.mesh.envoys())
        self.expect_envoys([])
        self.measure("rules removed", STOREFRONT, "catalog", "/products", expected="kernel")

    def nobody_notices(self) -> None:
        """kill -9 of agent and control plane, under load
        The kernel outlives them: programs and tables are pinned, and whoever starts next adopts them."""
        with self.visitor(STOREFRONT, "load", "catalog", "/products", 200) as load:
            load.hear()
            for module in ("agent", "xds", "agent"):
                pid = self.mesh.kill(module)
                with self.screen.doing(f"killed `python -m {module}` (pid {pid}); waiting for the next one"):
                    back = self.until(lambda: self.mesh.process_of(module) not in (None, pid))  # noqa: B023
                self.screen.see(
                    pid is not None and back, f"kill -9 {module}: pid {pid} -> {self.mesh.process_of(module)}"
                )
            with self.screen.doing("waiting until both are at work again"):
                self.mesh.sluice("status", "--wait", quiet=True)
            result = load.finish()
        total = result["ok"] + result["failed"]
        self.screen.see(
            result["failed"] == 0,
            f"{total:,} requests meanwhile, failed: {result['failed']} {result['errors'] or ''}",
        )
        self.measure("after the kills", STOREFRONT, "catalog", "/products", expected="kernel")

    # --- evidence ---

    def visit(self, pod: str, *words: str | int) -> dict[str, Any]:
        """What a visitor in `pod` saw (sluice.demo.visitor)."""
        seen: dict[str, Any] = json.loads(self.mesh.run(pod, *VISITOR, *map(str, words)).splitlines()[-1])
        return seen

    def visitor(self, pod: str, *words: str | int) -> AbstractContextManager[Conversation]:
        """A visitor in `pod` that stays."""
        return self.mesh.talk(pod, *VISITOR, *map(str, words))

    def measure(self, step: str, pod: str, service: str, path: str, expected: str) -> None:
        """Latency between a pod and a service, and which path `explain` says it took."""
        namespace = pod.partition("/")[0]
        target = ("--from", pod, "--to", f"{namespace}/{service}:80", "--method", "GET", "--path", path)
        told = self.mesh.explain(*target)["path"]
        p50 = self.visit(pod, "latency", service, path, ROUND_TRIPS)["p50_us"]
        envoys = self.mesh.envoys()
        self.screen.see(told == expected, f"{pod} -> {service}: {told} path, round trip p50 {p50:,} µs")
        self.rows.append(Row(step, f"{pod.partition('/')[2]} -> {service}: {told}", p50, len(envoys)))

    def expect_envoys(self, pods: list[str]) -> None:
        """Looks at the processes in the pods' network namespaces."""
        running = self.mesh.envoys()
        total = sum(map(len, self.mesh.processes().values()))
        where = ", ".join(running) or "none"
        self.screen.see(
            running == pods, f"Envoys among the {total} processes in the pods' network namespaces: {where}"
        )

    def counters(self, pod: str, matching: str) -> None:
        """What the pod's Envoy counted."""
        counted = self.mesh.envoy_counters(pod, matching)
        self.screen.output(counted)
        self.screen.see(bool(counted), f"so says the Envoy of {pod} itself")

    def until(self, holds: Callable[[], bool]) -> bool:
        """Polls, with a bound."""
        deadline = time.monotonic() + PATIENCE
        while not (met := holds()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return met

    def close(self) -> None:
        columns = ("step", "path", "round trip p50 µs", "Envoys")
        self.screen.table("What it cost", columns, [row.cells() for row in self.rows])


STEPS: tuple[Callable[[Tour], None], ...] = (
    Tour.everything_in_the_kernel,
    Tour.refused_by_the_kernel,
    Tour.requests_are_judged,
    Tour.a_canary,
    Tour.back_to_the_kernel,
    Tour.nobody_notices,
)

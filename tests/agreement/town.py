"""A node with a generated mesh on it: pods in namespaces of their own, the world outside, and tables,
listeners and attachments made as the agent makes them.

It knows the agent's enforcement and no policy: what a packet ought to meet is the test's to say.
"""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal

from agent.enforcement import Enforcement
from agent.kernel import Kernel
from agent.kernel.namespace import run_in_netns
from agent.records import Change
from agent.sandbox import Sandbox
from agent.workloads import Guarded, Workloads
from bpf.layout import Event
from mesh.datapath import Node
from mesh.model import WorkloadName
from mesh.node import NodeState, Record
from mesh.resources import TABLE_TYPES
from sluice.mesh_directory import cgroup2_mount
from tests.agreement.actor import Actor, Body
from tests.kernel.host import ip
from tests.leftovers import own_name

#: Whose socket it is: the application's, its Envoy's, or one in the pod's namespace that was made outside
#: the mesh's cgroup, so that packets are all we see of it. The node and the world have strangers only.
Role = Literal["app", "envoy", "stranger"]

#: Who acts: the name of a pod, or one of these.
HOST, OUTSIDE = "node", "world"
Who = tuple[str, Role]

_FOLDERS: tuple[tuple[Role, str], ...] = (("app", "pods"), ("envoy", "proxies"))


class Town:
    """Made once, for pods with these addresses; `settle` gives it a mesh. Leaves nothing behind."""

    def __init__(self, pods: Mapping[WorkloadName, tuple[str, ...]], node: str, world: Iterable[str]) -> None:
        self.pods = pods
        self._host = node
        self._world = tuple(world)
        self._tag = uuid.uuid4().hex[:6]
        name = own_name("town", self._tag)
        self._cgroup = cgroup2_mount() / name
        self._pins = Path("/sys/fs/bpf") / name
        self._state = NodeState()
        self._kernel: Kernel | None = None
        self._made = ExitStack()
        self._netns: dict[str, Path] = {}
        self.actors: dict[Who, Actor] = {}

    def open(self, ports: Iterable[int]) -> None:
        """With actors everywhere, who serve these ports."""
        self.build()
        self._cast_all()
        servers: list[Who] = [(str(pod), "app") for pod in self.pods]
        servers += [(HOST, "stranger"), (OUTSIDE, "stranger")]
        self.ask("serve", dict.fromkeys(servers, (list(ports),)))

    def build(self) -> None:
        """Without actors: namespaces, links, cgroups, and hooks on all of them."""
        self._made.callback(_remove_cgroup, self._cgroup)
        self._cgroup.mkdir()
        node = self._namespace(HOST)
        ip("link set lo up", f"addr add {self._host}/32 dev lo", netns=node.name)
        run_in_netns(node, _forward)
        self._made.callback(self._unpin)
        kernel = self._kernel = Kernel.open(self._pins, self._cgroup)
        sandboxes: dict[WorkloadName, Sandbox] = {}
        for index, (pod, addresses) in enumerate(self.pods.items()):
            netns = self._namespace(str(index))
            interface = f"slc{self._tag}{index:02x}"
            _wire(node, interface, netns, addresses, index)
            ip("route add local fd51:ce:1::/96 dev lo", netns=netns.name)
            sandboxes[pod] = Sandbox(pod, self._tag, netns, interface, addresses)
        world = self._namespace(OUTSIDE)
        _wire(node, f"slw{self._tag}", world, self._world, 255)
        self._enforcement = Enforcement(kernel)
        self._workloads = Workloads(kernel)
        run_in_netns(node, lambda: self._workloads.refresh(sandboxes))
        self.events()
        for pod in self.pods:
            for _, folder in _FOLDERS:
                (self._cgroup / folder / _file(pod)).mkdir(parents=True)

    def _cast_all(self) -> None:
        for pod, place in self._workloads.guarded.items():
            for role, folder in _FOLDERS:
                self._cast((str(pod), role), place.sandbox.netns, self._cgroup / folder / _file(pod))
            self._cast((str(pod), "stranger"), place.sandbox.netns, None)
        for who in (HOST, OUTSIDE):
            self._cast((who, "stranger"), self._netns[who], None)

    def close(self) -> None:
        """From whatever state `open` left it in, and all of it even if some of it fails."""
        self._made.close()

    def settle(self, node: Node) -> None:
        """Another mesh, as a node agent brings it into force: listeners, then tables and attachments."""
        state = node.state
        self.ask(
            "be_proxy",
            {
                (name, "envoy"): (record.addresses, record.ingress_listeners, record.egress_listeners)
                for name, record in state.pods.items()
            },
        )
        self.enforce(state, [pod for pod in self.pods if str(pod) in node.proxies])

    def enforce(
        self,
        state: NodeState,
        proxied: Iterable[WorkloadName] = (),
        guarded: Mapping[WorkloadName, Guarded] | None = None,
    ) -> None:
        """The kernel's part of that alone. `guarded`: what the sandboxes say, if not what was built."""
        places = self._workloads.guarded if guarded is None else guarded
        self._enforcement.take(_changes(self._state, state))
        self._enforcement.place(places, frozenset(proxied), ())
        self._enforcement.bring_into_force(places)
        self._state = state
        unknown = [pod for pod in self.pods if guarded is None and not self._enforcement.enforced(pod)]
        assert not unknown, f"not enforced: {unknown}"

    def ask(self, order: str, arguments: Mapping[Any, tuple[Any, ...]]) -> dict[Who, Any]:
        """Gives every actor named its order, all at once, and gathers what they answer."""
        for who, given in arguments.items():
            self.actors[who].begin(order, *given)
        return {who: self.actors[who].finish() for who in arguments}

    @property
    def generation(self) -> int:
        """The kernel's, in force."""
        return self._enforcement.generation

    def place_of(self, pod: WorkloadName) -> tuple[Path, Path]:
        """The network namespace of a pod and the cgroup of its application."""
        return self.guarded[pod].sandbox.netns, self._cgroup / "pods" / _file(pod)

    @property
    def guarded(self) -> Mapping[WorkloadName, Guarded]:
        """What was built."""
        return self._workloads.guarded

    def events(self) -> list[Event]:
        """Since the last call."""
        assert self._kernel is not None
        return [Event.unpack(record) for record in self._kernel.events().drain()]

    def lost(self) -> int:
        """Events and flows that found no room, ever."""
        assert self._kernel is not None
        counters = self._kernel.counters()
        return counters["events_lost"] + counters["flows_lost"]

    def _namespace(self, name: str) -> Path:
        full = f"sluice-town-{self._tag}-{name}"
        subprocess.run(["ip", "netns", "add", full], check=True)
        self._made.callback(subprocess.run, ["ip", "netns", "del", full], check=False)
        self._netns[name] = Path("/run/netns") / full
        return self._netns[name]

    def act(self, pod: WorkloadName | None, body: Callable[[], object]) -> Actor:
        """An application of another kind, in a pod or (None) in the world."""
        netns, cgroup = (self._netns[OUTSIDE], None) if pod is None else self.place_of(pod)
        actor = Actor(netns, cgroup, body)
        self._made.callback(actor.end)
        return actor

    def _cast(self, who: Who, netns: Path, cgroup: Path | None) -> None:
        assert self._kernel is not None
        actor = self.actors[who] = Actor(netns, cgroup, partial(Body, self._kernel))
        self._made.callback(actor.end)

    def _unpin(self) -> None:
        if self._kernel is not None:
            self._kernel.remove()


def _file(pod: WorkloadName) -> str:
    return str(pod).replace("/", "_")


def _remove_cgroup(cgroup: Path) -> None:
    if cgroup.exists():
        for folder in sorted(cgroup.rglob("*/"), key=lambda path: -len(path.parts)):
            folder.rmdir()
        cgroup.rmdir()


def _changes(old: NodeState, new: NodeState) -> Iterable[Change]:
    before, after = old.tables(), new.tables()
    for table, type_url in TABLE_TYPES.items():
        names: set[str] = {*before[table], *after[table]}
        for name in sorted(names):
            was: Record | None = before[table].get(name)
            now = after[table].get(name)
            if was != now:
                yield Change(type_url, name, was, now)


def _wire(node: Path, interface: str, netns: Path, addresses: Iterable[str], index: int) -> None:
    """A veth as a CNI plugin makes it: nobody needs to ask who the neighbour is."""
    near, far = f"02:00:00:00:01:{index:02x}", f"02:00:00:00:02:{index:02x}"
    outer = [f"link add {interface} address {near} type veth peer name eth0 address {far} netns {netns.name}"]
    outer.append(f"link set {interface} up")
    inner = ["link set lo up", "link set eth0 up", "route add 169.254.1.1 dev eth0 scope link"]
    for gateway in ("169.254.1.1", "fe80::1"):
        inner.append(f"neigh add {gateway} lladdr {near} dev eth0 nud permanent")
    for address in addresses:
        bits, gateway, more = (128, "fe80::1", " nodad") if ":" in address else (32, "169.254.1.1", "")
        # Two pods that have one address after the other may both be there.
        outer.append(f"route replace {address}/{bits} dev {interface}")
        outer.append(f"neigh add {address} lladdr {far} dev {interface} nud permanent")
        inner.append(f"addr add {address}/{bits} dev eth0{more}")
        inner.append(f"route replace default via {gateway} dev eth0 src {address}")
    ip(*outer, netns=node.name)
    ip(*inner, netns=netns.name)


def _forward() -> None:
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", name).write_text("1")


def until(seconds: float) -> Iterable[None]:
    """Rounds of looking, a moment apart, for so long at most."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.01)

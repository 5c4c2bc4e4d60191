"""N20: one end newer than the other, which skips what it does not know and so allows what was denied."""

from __future__ import annotations

import asyncio
import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agent import last_good
from agent.desired import Desired
from agent.entries import class_entries, set_entries
from agent.envoy import Envoy
from agent.last_good import LastGood
from agent.records import Records
from mesh.datapath import Node
from mesh.discovery.resource import Resource
from mesh.discovery.subscriber import Subscriber, Update
from mesh.discovery.wire import DeltaResponse, WireError
from mesh.node import Generation, Launch
from mesh.resources import GENERATION_TYPE, TABLE_TYPES, decode, encode
from proxy_configs.binary import envoy_binary
from sluice.cgroups import remove_cgroup
from sluice.mesh_directory import cgroup2_mount
from tests.mesh.shop import CANARY, GET_ONLY, SHOP, mesh_of

Body = list[Any]
#: Where the verdicts of a PolicyClass stand, and the ports of a ServiceRecord.
VERDICTS, PORTS = 1, 3


def bodies() -> Iterator[tuple[str, str, Body]]:
    """A record of every table with all that can be nested in it: table, name, what goes over the wire."""
    state = Node(mesh_of(SHOP, GET_ONLY, CANARY), "here").state
    for table, records in state.tables().items():
        name, record = max(records.items(), key=lambda entry: len(encode(entry[1])), default=("", None))
        if record is not None:
            yield table, name, json.loads(encode(record))


def nested(table: str, body: Body) -> Body:
    """The part of a record that is a record too."""
    found: Body = body[{"classes": VERDICTS, "services": PORTS}[table]][0]
    return found


SKEWS: list[tuple[str, str, Callable[[Body], object]]] = [
    *((table, "a field more", lambda body: body.append("deny")) for table, _, _ in bodies()),
    *((table, "a field less", lambda body: body.pop()) for table, _, _ in bodies()),
    *(
        (t, "a field more inside", lambda b, t=t: nested(t, b).append("deny"))
        for t in ("classes", "services")
    ),
    *((t, "a field less inside", lambda b, t=t: nested(t, b).pop()) for t in ("classes", "services")),
    ("classes", "a verdict", lambda body: nested("classes", body).__setitem__(3, "reset")),
    ("classes", "a verdict of audit", lambda body: nested("classes", body).__setitem__(6, "reset")),
    ("classes", "a protocol", lambda body: nested("classes", body).__setitem__(0, "DCCP")),
    ("services", "a protocol", lambda body: nested("services", body).__setitem__(1, "DCCP")),
    ("sets", "a direction", lambda body: body.__setitem__(1, "both")),
]


@pytest.mark.parametrize(("table", "what", "change"), SKEWS, ids=[f"{t}: {w}" for t, w, _ in SKEWS])
def test_a_record_of_another_version_is_refused_whole(
    table: str, what: str, change: Callable[[Body], object]
) -> None:
    """A field that is left out would become a default, of which some mean "no restriction"."""
    body = next(body for found, _, body in bodies() if found == table)
    decode(TABLE_TYPES[table], json.dumps(body).encode())
    change(body)
    with pytest.raises(ValueError, match="malformed"):
        decode(TABLE_TYPES[table], json.dumps(body).encode())


def received(records: Records, type_url: str, **changed: bytes) -> str:
    """Why the agent refuses it; empty if it does not."""
    resources = {name: Resource.of(type_url, name, body) for name, body in changed.items()}
    try:
        records.receive(Update(type_url, "1", resources))
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("unknown", TABLE_TYPES)
def test_nothing_of_a_generation_is_in_force_that_cannot_be_read_whole(unknown: str) -> None:
    """Half a generation may allow what neither it nor the one before allows: new identities under old
    policy, say. So the last good one stays, on disk too, until all can be read."""
    records, next_one = Records(), Node(mesh_of(SHOP, GET_ONLY), "here").state.tables()
    for table, found in Node(mesh_of(SHOP), "here").state.tables().items():
        assert not received(records, TABLE_TYPES[table], **{n: encode(r) for n, r in found.items()})
    assert not received(records, GENERATION_TYPE, generation=encode(Generation(1)))
    assert records.begin() is not None
    records.finish()
    before = records.applied()

    for table, found in next_one.items():
        sent = {name: encode(record) for name, record in found.items()}
        if table == unknown:
            sent["one"] = b'["of another version"]'
        assert bool(received(records, TABLE_TYPES[table], **sent)) == (table == unknown)
    assert "cannot be read" in received(records, GENERATION_TYPE, generation=encode(Generation(2)))
    assert records.begin() is None
    assert records.applied() == before
    assert len(records.unread) == 1

    # The next version is understood again, and with it all that came before.
    assert not received(records, TABLE_TYPES[unknown], **{n: encode(r) for n, r in next_one[unknown].items()})
    records.receive(Update(TABLE_TYPES[unknown], "2", {}, ("one",)))
    assert not received(records, GENERATION_TYPE, generation=encode(Generation(3)))
    assert records.begin() is not None
    changes = {(change.type_url, change.name): change.new for change in records.begun()}
    for table, found in next_one.items():
        for name, record in found.items():
            assert changes[TABLE_TYPES[table], name] == record


def test_a_state_on_disk_of_another_version_is_no_state(tmp_path: Path) -> None:
    records = Records()
    received(records, TABLE_TYPES["names"], names=b"[[],0]")
    received(records, GENERATION_TYPE, generation=encode(Generation(1)))
    records.begin()
    records.finish()
    path = tmp_path / "last-good"
    last_good.save(path, LastGood(1, records.applied()))
    written = path.read_bytes()
    assert last_good.load(path) is not None
    for known, other in ((b"[[],0]", b'[1,{"]'), (b"v1.Names", b"v2.Names")):
        assert known in written
        path.write_bytes(written.replace(known, other))
        with pytest.raises(ValueError):
            last_good.load(path)


def test_a_kind_of_record_that_was_not_asked_for_ends_the_stream() -> None:
    """The agent asks for the types that it knows; whatever else comes is not passed over."""
    subscriber = Subscriber("node", tuple(TABLE_TYPES.values()))
    subscriber.connect()
    with pytest.raises(WireError, match="was not asked for"):
        subscriber.receive(DeltaResponse("type.googleapis.com/sluice.node.v2.Pod", "1", "1").encode())


def test_what_the_agent_reads_it_can_also_lower() -> None:
    """No word gets past the wire that would stop the agent later."""
    desired = Desired()
    for table, name, body in bodies():
        record = decode(TABLE_TYPES[table], json.dumps(body).encode())
        if table == "classes":
            desired.replace(name, class_entries(record))  # type: ignore[arg-type]
        if table == "sets":
            desired.replace(name, set_entries(record))  # type: ignore[arg-type]
    assert desired.touched()


@pytest.fixture
def pod() -> Iterator[str]:
    """A network namespace, and a cgroup of the same name."""
    name = f"n20-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)
    remove_cgroup(cgroup2_mount() / name)


@pytest.mark.root
@pytest.mark.parametrize("field", ["", "a_matcher_of_tomorrow"])
async def test_an_envoy_refuses_a_resource_with_a_field_that_it_does_not_know(
    field: str, pod: str, tmp_path: Path
) -> None:
    """By itself it would take the rest of it, a rule of RBAC without one of its conditions, say."""
    binary = envoy_binary()
    if binary is None:
        pytest.skip("there is no Envoy here: make install")
    listener: dict[str, Any] = {
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": "one",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 15099}},
        "filter_chains": [{}],
    }
    (tmp_path / "lds.json").write_text(json.dumps({"resources": [listener | ({field: 1} if field else {})]}))
    source = {"resource_api_version": "V3", "path_config_source": {"path": str(tmp_path / "lds.json")}}
    bootstrap = {
        "node": {"id": "one", "cluster": "one"},
        "dynamic_resources": {"lds_config": source},
        "admin": {"address": {"pipe": {"path": str(tmp_path / "admin.sock")}}},
    }
    (tmp_path / "envoy.json").write_text(json.dumps(bootstrap))
    ended = asyncio.Event()
    envoy = Envoy.start(
        binary, tmp_path / "envoy.json", Path("/run/netns") / pod, cgroup2_mount() / pod,
        tmp_path / "envoy.log", Launch(), lambda _: ended.set(),
    )  # fmt: skip
    try:
        counters = await settled(tmp_path / "admin.sock")
    finally:
        envoy.kill()
        await ended.wait()
    assert counters == {"update_success": not field, "update_rejected": bool(field)}


async def settled(admin: Path) -> dict[str, bool]:
    """What became of the listeners, once something has."""
    found: dict[str, bool] = {}
    async with (
        asyncio.timeout(40),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(admin))) as http,
    ):
        while not any(found.values()):
            await asyncio.sleep(0.02)
            with suppress(aiohttp.ClientError):
                async with http.get(
                    "http://envoy/stats?format=json&filter=lds.update_(success|rejected)$"
                ) as said:
                    stats = (await said.json())["stats"]
                    found = {entry["name"].rpartition(".")[2]: bool(entry["value"]) for entry in stats}
    return found

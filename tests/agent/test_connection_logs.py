"""Which connections have lines (rules 20, 25), without a kernel. What a line says: tests/xds/render."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from agent.connection_logs import connection_logging, ends
from agent.connection_logs.connection_logging import ConnectionLogging
from agent.names import Names
from agent.records import Change
from bpf.layout import NO_ADDRESS, Event, EventFlags, EventType, Verdict
from bpf.layout import packed_address as packed
from mesh.model import ServiceName, WorkloadName
from mesh.node import ConnectionLog, LoggingRecord, Record, ServiceRecord, WorkloadRecord

CLIENT, WEB = (WorkloadName("shop", name) for name in ("client", "web"))
LINE = "%DOWNSTREAM_REMOTE_ADDRESS% > %DOWNSTREAM_LOCAL_ADDRESS% > %UPSTREAM_HOST% %UPSTREAM_CLUSTER%"
FILE = ConnectionLog(f"{LINE} %BYTES_RECEIVED% %BYTES_SENT% %DURATION%\n", path="/dev/stdout")

OPENED = Event(
    5 * 10**9, packed("10.0.0.1"), packed("10.0.0.2"), packed("10.128.0.1"), 301, 300, 0, 0, 7,
    40000, 8080, 80, 6, EventType.FLOW, Verdict.ALLOW, 0, EventFlags.EGRESS,
)  # fmt: skip
CLOSED = replace(
    OPENED, time_ns=OPENED.time_ns + 30_000_000, type=EventType.CLOSE, vip_port=0, sent=11, received=22
)
#: The other end's.
TAKEN = replace(
    CLOSED, src=CLOSED.dst, dst=CLOSED.src, src_port=8080, dst_port=40000, flags=0, vip=NO_ADDRESS,
    sent=22, received=11,
)  # fmt: skip


class Node:
    """Of an agent in whose records `logs` stand for both pods, and `server` for what they accept."""

    def __init__(
        self, folder: Path, *logs: ConnectionLog, server: tuple[ConnectionLog, ...] | None = None
    ) -> None:
        names = Names()
        self.switched: list[bool] = []
        self.folder = folder
        self.logging = ConnectionLogging(names, lambda pod: folder / pod.name, self._switch)
        records: list[Record] = [
            WorkloadRecord(CLIENT, 300, (("10.0.0.1", 0),), "node1"),
            WorkloadRecord(WEB, 300, (("10.0.0.2", 0),), "node1"),
            ServiceRecord(ServiceName("shop", "web"), ("10.128.0.1",), 0, ()),
            *(LoggingRecord(pod, logs, logs if server is None else server) for pod in (CLIENT, WEB) if logs),
        ]
        for record in records:
            for follower in (names, self.logging):
                follower.follow(Change("type", "name", None, record))
        asyncio.run(self.logging.settle())

    def see(self, *events: Event) -> None:
        self.logging.add_events([event.pack() for event in events])

    def lines(self, pod: WorkloadName) -> list[str]:
        """What stands in the log of a pod after the next write."""
        with suppress(TimeoutError):
            asyncio.run(asyncio.wait_for(self.logging.run(), 0.1))
        path = self.folder / pod.name
        return path.read_text().splitlines() if path.exists() else []

    async def _switch(self, on: bool) -> None:
        self.switched.append(on)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_logging, "PERIOD", 0.01)


SEEN = "10.0.0.1:40000 > 10.128.0.1:80 > 10.0.0.2:8080 outbound|80||web.shop.svc.cluster.local 11 22 30"


def test_each_end_has_a_line_of_its_own(tmp_path: Path) -> None:
    node = Node(tmp_path, FILE)
    node.see(OPENED, CLOSED)
    node.see(TAKEN)
    assert node.switched == [True]
    assert node.lines(CLIENT) == [SEEN]
    assert node.lines(WEB) == ["10.0.0.1:40000 > 10.0.0.2:8080 > 10.0.0.2:8080 inbound|8080|| 11 22 30"]


def test_each_end_is_logged_as_its_pod_logs_in_that_direction(tmp_path: Path) -> None:
    node = Node(tmp_path, FILE, server=())
    node.see(OPENED, CLOSED, TAKEN)
    assert (len(node.lines(CLIENT)), node.lines(WEB)) == (1, [])


def test_what_began_unseen_is_told_without_a_duration_and_what_has_no_service_as_passed_on(
    tmp_path: Path,
) -> None:
    node = Node(tmp_path, FILE)
    node.see(CLOSED, replace(CLOSED, vip=NO_ADDRESS, src_port=40001))
    assert node.lines(CLIENT) == [
        "10.0.0.1:40000 > 10.128.0.1:8080 > 10.0.0.2:8080 outbound|8080||web.shop.svc.cluster.local 11 22 -",
        "10.0.0.1:40001 > 10.0.0.2:8080 > 10.0.0.2:8080 PassthroughCluster 11 22 -",
    ]


def test_a_filter_keeps_and_what_goes_nowhere_is_not_written(tmp_path: Path) -> None:
    node = Node(tmp_path, replace(FILE, filter="source.port == 40001"), replace(FILE, path="/dev/null"))
    node.see(*(replace(CLOSED, src_port=port, vip=NO_ADDRESS) for port in (40000, 40001, 40002)))
    assert [line[:14] for line in node.lines(CLIENT)] == ["10.0.0.1:40001"]
    assert node.logging.dropped == 0


def test_no_more_is_written_than_the_bound_allows_and_the_rest_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_logging, "RATE", 3)
    node = Node(tmp_path, FILE)
    node.see(*(replace(CLOSED, src_port=port) for port in range(1, 9)))
    assert len(node.lines(CLIENT)) == 3 and node.logging.dropped == 5


def test_what_cannot_be_written_is_counted(tmp_path: Path) -> None:
    node = Node(tmp_path, FILE)
    (tmp_path / CLIENT.name).mkdir()
    node.see(CLOSED)
    with pytest.raises(IsADirectoryError):
        node.lines(CLIENT)
    assert node.logging.dropped == 1


def test_what_is_remembered_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "KEPT", 1)
    node = Node(tmp_path, FILE)
    node.see(OPENED, replace(OPENED, src_port=40001), replace(CLOSED, src_port=40001), CLOSED)
    assert [line.rpartition(" ")[2] for line in node.lines(CLIENT)] == ["30", "-"]


def test_without_a_record_the_kernel_is_silent_and_nothing_is_kept(tmp_path: Path) -> None:
    node = Node(tmp_path)
    assert node.switched == [False]
    node.see(OPENED, CLOSED)
    assert node.lines(CLIENT) == []

from __future__ import annotations

import pytest

from mesh.datapath import Node
from mesh.model import ServiceName, WorkloadName
from mesh.node import (
    Collector,
    ConnectionLog,
    Generation,
    Launch,
    LoggingRecord,
    Manifest,
    PodRecord,
    PolicyClass,
    PortVerdict,
    TracingRecord,
)
from mesh.resources import GENERATION_TYPE, MANIFEST_TYPE, TABLE_TYPES, decode, encode
from tests.mesh.shop import CANARY, GET_ONLY, SHOP, mesh_of

COLLECTOR = Collector("otel.shop.svc.cluster.local", 4317, ServiceName("shop", "otel"))


def test_every_record_survives_the_wire() -> None:
    state = Node(mesh_of(SHOP, GET_ONLY, CANARY), "here").state
    seen = 0
    for table, records in state.tables().items():
        for record in records.values():
            assert decode(TABLE_TYPES[table], encode(record)) == record
            seen += 1
    assert seen > 10
    audited = PolicyClass(7, (PortVerdict("TCP", 1, 2, "allow", 0, ("a",), "deny", ("b", "c")),), ("d",))
    assert decode(TABLE_TYPES["classes"], encode(audited)) == audited
    manifest = Manifest(WorkloadName("a", "b"), {"type": {"name": "hash"}})
    assert decode(MANIFEST_TYPE, encode(manifest)) == manifest
    for collector in (
        Collector("otel.example.com", 4318, None, "/v1/traces", (("x-token", "a"),), 3000),
        COLLECTOR,
    ):
        tracing = TracingRecord(WorkloadName("a", "b"), collector, 100, "b.a", "v1", (("tier", "gold"),))
        assert decode(TABLE_TYPES["tracings"], encode(tracing)) == tracing
    log = ConnectionLog("a", "{}", "/dev/stdout", True, "source.port == 1", COLLECTOR, (("a", "b"),))
    logging = LoggingRecord(WorkloadName("a", "b"), (log,), (ConnectionLog("c"),))
    assert decode(TABLE_TYPES["loggings"], encode(logging)) == logging
    launch = Launch(0, (("TIER", "gold"),), 5000)
    launched = PodRecord(WorkloadName("a", "b"), ("10.0.0.1",), 300, launch=launch)
    assert decode(TABLE_TYPES["pods"], encode(launched)) == launched
    assert decode(GENERATION_TYPE, encode(Generation(7, "t"))) == Generation(7, "t")


def test_what_is_no_record_is_refused() -> None:
    with pytest.raises(ValueError, match="not a record"):
        decode("type.googleapis.com/other", b"[]")
    with pytest.raises(ValueError, match="malformed"):
        decode(MANIFEST_TYPE, b"[1]")
    log = ConnectionLog("a", filter="source.port ==")
    with pytest.raises(ValueError, match="lacks a value"):
        decode(TABLE_TYPES["loggings"], encode(LoggingRecord(WorkloadName("a", "b"), (log,), ())))

"""The wire codec against the generated classes, and against bytes that are no message."""

from __future__ import annotations

import pytest
from envoy_data_plane.envoy.config.core.v3 import Node
from envoy_data_plane.envoy.service.discovery.v3 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from envoy_data_plane.google.protobuf import Any
from envoy_data_plane.google.rpc import Status
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.discovery import wire

TEXT = st.text(max_size=200)
NAMES = st.lists(TEXT, max_size=5).map(tuple)
ERROR = st.none() | TEXT
ANYS = st.builds(lambda value: bytes(Any(type_url="t", value=value)), st.binary(max_size=300))


@settings(max_examples=60, deadline=None)
@given(TEXT, st.none() | TEXT, NAMES, TEXT, TEXT, ERROR)
def test_a_request_reads_the_same_as_the_generated_class(
    type_url: str, node: str | None, names: tuple[str, ...], version: str, nonce: str, error: str | None
) -> None:
    theirs = DiscoveryRequest(
        type_url=type_url,
        node=None if node is None else Node(id=node, cluster="c", user_agent_name="envoy"),
        resource_names=list(names),
        version_info=version,
        response_nonce=nonce,
        error_detail=None if error is None else Status(code=3, message=error),
    )
    ours = wire.DiscoveryRequest(type_url, node, names, version, nonce, error)
    assert wire.DiscoveryRequest.decode(bytes(theirs)) == ours
    again = DiscoveryRequest.parse(ours.encode())
    assert (again.resource_names, again.type_url, again.version_info) == (list(names), type_url, version)
    assert (None if again.node is None else again.node.id) == node
    assert again.response_nonce == nonce
    assert (None if again.error_detail is None else again.error_detail.message) == error


@settings(max_examples=60, deadline=None)
@given(TEXT, st.none() | TEXT, NAMES, NAMES, st.dictionaries(TEXT, TEXT, max_size=5), TEXT, ERROR)
def test_a_delta_request_reads_the_same_as_the_generated_class(
    type_url: str,
    node: str | None,
    subscribe: tuple[str, ...],
    unsubscribe: tuple[str, ...],
    initial: dict[str, str],
    nonce: str,
    error: str | None,
) -> None:
    theirs = DeltaDiscoveryRequest(
        type_url=type_url,
        node=None if node is None else Node(id=node, cluster="c"),
        resource_names_subscribe=list(subscribe),
        resource_names_unsubscribe=list(unsubscribe),
        initial_resource_versions=initial,
        response_nonce=nonce,
        error_detail=None if error is None else Status(code=3, message=error),
    )
    ours = wire.DeltaRequest(type_url, node, subscribe, unsubscribe, initial, nonce, error)
    assert wire.DeltaRequest.decode(bytes(theirs)) == ours
    assert wire.DeltaRequest.decode(ours.encode()) == ours
    again = DeltaDiscoveryRequest.parse(ours.encode())
    assert again.initial_resource_versions == initial
    assert again.resource_names_unsubscribe == list(unsubscribe)


@settings(max_examples=60, deadline=None)
@given(TEXT, TEXT, TEXT, st.lists(st.tuples(TEXT, TEXT, ANYS), max_size=4).map(tuple), NAMES)
def test_responses_read_the_same_in_the_generated_class(
    type_url: str,
    version: str,
    nonce: str,
    resources: tuple[tuple[str, str, bytes], ...],
    removed: tuple[str, ...],
) -> None:
    delta = wire.DeltaResponse(type_url, version, nonce, resources, removed)
    assert wire.DeltaResponse.decode(delta.encode()) == delta
    theirs = DeltaDiscoveryResponse.parse(delta.encode())
    assert [(r.name, r.version, bytes(r.resource or Any())) for r in theirs.resources] == list(resources)
    assert (theirs.type_url, theirs.system_version_info, theirs.nonce) == (type_url, version, nonce)
    assert theirs.removed_resources == list(removed)

    world = wire.DiscoveryResponse(type_url, version, nonce, tuple(any_ for _, _, any_ in resources))
    assert wire.DiscoveryResponse.decode(world.encode()) == world
    parsed = DiscoveryResponse.parse(world.encode())
    assert [bytes(any_) for any_ in parsed.resources] == [any_ for _, _, any_ in resources]
    assert (parsed.type_url, parsed.version_info, parsed.nonce) == (type_url, version, nonce)


@given(st.integers(0, 2**64 - 1), st.integers(1, 2**29 - 1))
def test_an_integer_comes_back(value: int, number: int) -> None:
    assert list(wire.fields(wire.integer_field(number, value))) == [(number, value, b"")]


def test_fixed_fields_are_read_as_unsigned_integers() -> None:
    message = bytes([1 << 3 | 1]) + b"\x01" + bytes(7) + bytes([2 << 3 | 5]) + b"\xff" * 4
    assert list(wire.fields(message)) == [(1, 1, b""), (2, 2**32 - 1, b"")]


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a",
        b"\x0a\x05abc",
        b"\x08",
        b"\x08\xff",
        b"\x09abc",
        b"\x0b",
        b"\x02a",
        b"\x08" + b"\xff" * 11,
        b"\xff",
    ],
    ids=[
        "no length",
        "short",
        "no varint",
        "cut varint",
        "cut fixed",
        "group",
        "number 0",
        "long varint",
        "cut tag",
    ],
)
def test_bytes_that_are_no_message_are_refused(message: bytes) -> None:
    with pytest.raises(wire.WireError):
        list(wire.fields(message))


@given(st.binary(max_size=60))
def test_random_bytes_are_read_or_refused_and_nothing_else(message: bytes) -> None:
    for kind in (wire.DiscoveryRequest, wire.DeltaRequest, wire.DiscoveryResponse, wire.DeltaResponse):
        try:
            kind.decode(message)
        except wire.WireError:
            continue


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(wire.WireError):
        wire.DeltaRequest.decode(wire.bytes_field(2, b"\xff"))

"""What `sluice trace` makes of what the kernel says (offsets, names, lines) and of what a machine has."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sluice.btf import VMLINUX, Btf, BtfError
from sluice.kernel_trace import OFFSETS, REASONS
from sluice.trace_machine import installed
from sluice.trace_names import TraceNames, concerns
from sluice.trace_text import connect_line, drop_line, tcp_table

NAMES = TraceNames(
    owners={7: "shop/web", 8: "node"},
    addresses={"10.64.0.2": "shop/web", "10.64.0.3": "shop/api", "fd51::3": "shop/api", "10.64.0.1": "node"},
    services={"10.64.0.3:8080": ("shop/api:80", "shop/all:80")},
)


def line(destination: str, port: int, **more: Any) -> dict[str, Any]:
    found = {"netns": 7, "source": "10.64.0.2", "source_port": 40000}
    return found | {"destination": destination, "destination_port": port} | more


def test_offsets_are_those_of_the_running_kernel() -> None:
    """bpftool, which has a reader of its own, says the same."""
    btf = Btf(Path(VMLINUX).read_bytes())
    try:
        text = subprocess.run(
            ["bpftool", "btf", "dump", "file", VMLINUX, "format", "raw"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except FileNotFoundError:
        pytest.skip("bpftool is not installed")
    for path in OFFSETS.values():
        assert btf.offset(path) >= 0
    for name, field in (("sock", "sk_err"), ("sk_buff", "head"), ("tcp_sock", "srtt_us")):
        body = text.partition(f"STRUCT '{name}' ")[2].partition("\n[")[0]
        found = re.search(rf"'{field}' type_id=\d+ bits_offset=(\d+)", body)
        assert found and btf.offset(f"{name}.{field}") == int(found[1]) // 8
    assert "SKB_DROP_REASON_NO_SOCKET" in btf.enumeration(REASONS).values()


def test_fields_of_an_anonymous_struct_count_from_the_outer_one() -> None:
    """struct outer { int x; struct { int y; int z; }; };"""
    strings = b"\0int\0outer\0x\0y\0z\0"
    at = {name: strings.index(name.encode() + b"\0") for name in ("int", "outer", "x", "y", "z")}
    words = [
        *(at["int"], 1 << 24, 4, 32),
        *(0, 4 << 24 | 2, 8, at["y"], 1, 0, at["z"], 1, 32),
        *(at["outer"], 4 << 24 | 2, 12, at["x"], 1, 0, 0, 2, 32),
    ]
    types = struct.pack(f"={len(words)}I", *words)
    header = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    btf = Btf(header + types + strings)
    assert [btf.offset(f"outer.{name}") for name in "xyz"] == [0, 4, 8]


@pytest.mark.parametrize("path", ["sock.no_such_field", "no_such_struct.x", "sock.sk_err.deeper"])
def test_a_field_that_a_kernel_lacks_is_named(path: str) -> None:
    with pytest.raises(BtfError, match="kernel"):
        Btf(Path(VMLINUX).read_bytes()).offset(path)


@pytest.mark.parametrize("data", [b"", b"\x00" * 64])
def test_what_is_no_btf_is_refused(data: bytes) -> None:
    with pytest.raises(BtfError):
        Btf(data)


def test_a_connect_is_told_by_pod_and_service() -> None:
    told = NAMES.tell(line("10.64.0.3", 8080, us=183.4, established=True, error="", command="curl"))
    assert (
        connect_line(told) == "shop/web (curl) -> shop/api:8080 (Service shop/api:80, shop/all:80) 0.183 ms"
    )
    assert told["destination"] == {
        "ip": "10.64.0.3", "port": 8080, "name": "shop/api", "services": ["shop/api:80", "shop/all:80"]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "said"), [("Connection refused", ", Connection refused"), ("", ", given up")]
)
def test_a_connect_that_fails_says_how(error: str, said: str) -> None:
    told = NAMES.tell(line("192.0.2.1", 80, us=1000, established=False, error=error, command="curl"))
    assert connect_line(told) == f"shop/web (curl) -> 192.0.2.1:80 1.000 ms{said}"


@pytest.mark.parametrize(
    ("address", "port", "name"),
    [
        ("127.0.0.1", 15001, "Envoy of shop/web"),
        ("127.0.1.0", 15001, "Envoy of shop/web"),
        ("fd51:ce:1::1", 15001, "Envoy of shop/web"),
        ("240.0.1.1", 15006, "Envoy of shop/web"),
        ("127.0.0.6", 50000, "Envoy of shop/web"),
        ("127.0.0.1", 8080, "shop/web"),
        ("::1", 8080, "shop/web"),
        ("10.64.0.1", 1, "node"),
        ("192.0.2.1", 15001, ""),
    ],
)
def test_addresses_that_mean_something_in_one_pod_only_are_its_own(
    address: str, port: int, name: str
) -> None:
    told = NAMES.tell(line(address, port))
    assert told["destination"]["name"] == name


def test_a_drop_says_what_why_and_where() -> None:
    told = NAMES.tell(line("fd51::3", 0, protocol=58, reason="NO_SOCKET", at="f"))
    assert drop_line(told) == "ICMPv6 shop/web:40000 -> shop/api NO_SOCKET at f, seen in shop/web"


def test_connections_in_trouble_come_first() -> None:
    def connection(port: int, retransmits: int, samples: int = 3) -> dict[str, Any]:
        rtt = {"min": 20, "avg": 25, "max": 1500}
        counts = {"retransmits": retransmits, "resets_sent": 0, "resets_received": 0}
        return NAMES.tell(line("10.64.0.3", port, samples=samples, rtt_us=rtt, **counts))

    rows = tcp_table([connection(1, 0), connection(2, 4), connection(3, 0, samples=0)]).splitlines()[1:]
    assert [re.split(" {2,}", row) for row in rows] == [
        ["shop/web:40000", "shop/api:2", "0.020 ms", "0.025 ms", "1.500 ms", "4", "0", "0"],
        ["shop/web:40000", "shop/api:1", "0.020 ms", "0.025 ms", "1.500 ms", "0", "0", "0"],
        ["shop/web:40000", "shop/api:3", "-", "-", "-", "0", "0", "0"],
    ]


def test_a_pod_is_concerned_where_it_is_seen_or_stands_at_an_end() -> None:
    told = NAMES.tell(line("10.64.0.3", 8080))
    assert concerns(told, "shop/web") and concerns(told, "shop/api") and not concerns(told, "shop/other")


def test_the_newest_headers_count_and_debians_two_halves_belong_together(tmp_path: Path) -> None:
    def put(name: str, whole: bool) -> Path:
        folder = tmp_path / name
        (folder / "include/linux").mkdir(parents=True)
        if whole:
            (folder / "include/linux/kconfig.h").touch()
        return folder

    assert installed(tmp_path) == ()
    old = put("linux-headers-6.8.0-9-generic", whole=True)
    assert installed(tmp_path) == (old,)
    half = put("linux-headers-6.12.48+deb13-amd64", whole=False)
    assert installed(tmp_path) == (old,), "a half alone is of no use"
    common = put("linux-headers-6.12.48+deb13-common", whole=True)
    assert installed(tmp_path) == (half, common)

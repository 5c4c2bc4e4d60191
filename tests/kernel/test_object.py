"""The object and its Python mirror: one layout, programs far from the verifier's limit, adoption."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.kernel import Kernel, KernelError, libbpf
from agent.kernel.program import OBJECT
from bpf import layout
from tests.kernel.box import Box

#: Of the verifier's limit of a million; what is more complex than this wants to be cut.
VERIFIED_LIMIT = 100_000

STRUCTS: dict[str, type[layout.Struct] | type[layout.TwoSlots] | type[layout.RulePage]] = {
    "addr_key": layout.AddrKey,
    "addr_slot": layout.AddrSlot,
    "addr_value": layout.AddrValue,
    "netns_value": layout.NetnsValue,
    "pod_slot": layout.PodSlot,
    "pod_value": layout.PodValue,
    "service_key": layout.ServiceKey,
    "service_slot": layout.ServiceSlot,
    "service_value": layout.ServiceValue,
    "backend": layout.Backend,
    "route_key": layout.RouteKey,
    "route_slot": layout.RouteSlot,
    "route_value": layout.RouteValue,
    "peer_key": layout.PeerKey,
    "peer_slot": layout.PeerSlot,
    "peer_value": layout.PeerValue,
    "rule_key": layout.RuleKey,
    "rule_value": layout.RuleValue,
    "rule_page": layout.RulePage,
    "listener_key": layout.ListenerKey,
    "flow_key": layout.FlowKey,
    "flow_value": layout.FlowValue,
    "traffic_key": layout.TrafficKey,
    "traffic_value": layout.TrafficValue,
    "event": layout.Event,
    "bulk": layout.Bulk,
}
ENUMS = {
    "sl_verdict": layout.Verdict,
    "sl_audit": layout.Audit,
    "rule_tree": layout.RuleTree,
    "sl_config": layout.Config,
    "pod_flags": layout.PodFlags,
    "service_flags": layout.ServiceFlags,
    "flow_flags": layout.FlowFlags,
    "event_type": layout.EventType,
    "drop_reason": layout.DropReason,
    "event_flags": layout.EventFlags,
    "counter": layout.Counter,
}
PREFIXES = (
    "SL_CFG_",
    "SL_POD_",
    "SL_SERVICE_",
    "SL_FLOW_",
    "SL_EVENT_",
    "SL_DROP_",
    "SL_EV_",
    "SL_COUNT_",
    "SL_AUDIT_",
    "SL_RULES_",
    "SL_",
)


class Btf:
    """The types of an object."""

    def __init__(self, path: Path) -> None:
        dump = subprocess.run(
            ["bpftool", "btf", "dump", "file", str(path), "-j"], capture_output=True, check=True
        )
        self.types = {entry["id"]: entry for entry in json.loads(dump.stdout)["types"]}

    def struct(self, name: str) -> dict[str, Any]:
        found: dict[str, Any]
        (found,) = (t for t in self.types.values() if t["kind"] == "STRUCT" and t["name"] == name)
        return found

    def leaves(self, type_id: int, offset: int = 0, path: str = "") -> Iterator[tuple[str, int, int]]:
        """(path, offset, size) of each scalar, array and address, in bytes."""
        kind = self.types[type_id]
        while kind["kind"] in ("TYPEDEF", "CONST", "VOLATILE"):
            kind = self.types[kind["type_id"]]
        if kind["kind"] == "STRUCT" and kind["name"] not in ("addr", "bpf_spin_lock"):
            for member in kind["members"]:
                here = f"{path}.{member['name']}" if path else member["name"]
                yield from self.leaves(member["type_id"], offset + member["bits_offset"] // 8, here)
        elif kind["kind"] == "ARRAY" and self.types[kind["type_id"]]["kind"] == "STRUCT":
            size = self.types[kind["type_id"]]["size"]
            for index in range(kind["nr_elems"]):
                yield from self.leaves(kind["type_id"], offset + index * size, f"{path}[{index}]")
        elif kind["kind"] == "ARRAY":
            element = self._scalar(kind["type_id"])
            for index in range(kind["nr_elems"]):
                yield f"{path}[{index}]", offset + index * element, element
        else:
            yield path, offset, kind["size"]

    def _scalar(self, type_id: int) -> int:
        kind = self.types[type_id]
        while "size" not in kind:
            kind = self.types[kind["type_id"]]
        size: int = kind["size"]
        return size


@pytest.fixture(scope="module")
def btf() -> Btf:
    return Btf(OBJECT)


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> Btf:
    """Constants, and the record of a ring buffer, reach no object's BTF: the header alone, compiled."""
    source, target = (tmp_path_factory.mktemp("btf") / name for name in ("header.c", "header.o"))
    bpf = Path(layout.__file__).parent
    multiarch = f"{platform.machine()}-linux-gnu"
    source.write_text(
        '#include <linux/bpf.h>\n#include "layout.h"\nstruct event event;\n'
        + "".join(f"enum {name} of_{name};\n" for name in ENUMS)
    )
    subprocess.run(
        [
            "clang",
            "-target",
            "bpf",
            "-g",
            "-O2",
            f"-I{bpf}",
            f"-I/usr/include/{multiarch}",
            "-c",
            source,
            "-o",
            target,
        ],
        check=True,
    )
    return Btf(target)


def python_leaves(kind: type[layout.Struct]) -> Iterator[tuple[int, int]]:
    """(offset, size) of each item of the format, padding left out."""
    offset = 0
    for count, code in re.findall(r"(\d*)([a-zA-Z])", kind.FORMAT.format):
        size = {"B": 1, "H": 2, "I": 4, "Q": 8, "s": 1, "x": 1}[code]
        if code == "s":
            yield offset, int(count)
            offset += int(count)
        elif code == "x":
            offset += int(count or 1)
        else:
            for _ in range(int(count or 1)):
                yield offset, size
                offset += size


@pytest.mark.parametrize("name", STRUCTS)
def test_every_struct_is_laid_out_as_in_the_object(btf: Btf, header: Btf, name: str) -> None:
    btf = header if name == "event" else btf
    struct, mirror = btf.struct(name), STRUCTS[name]
    assert mirror.sizeof() == struct["size"]
    if issubclass(mirror, layout.TwoSlots):
        assert struct["members"][0]["name"] == "slot"
        return
    if issubclass(mirror, layout.RulePage):
        offsets = {member["name"]: member["bits_offset"] // 8 for member in struct["members"]}
        assert offsets == {"start": 0, "rule": 4 * layout.RuleTree.PAGE}
        return
    named = {(at, size) for path, at, size in btf.leaves(struct["id"]) if not re.search(r"\bpad\d?\b", path)}
    explicit_padding = {
        (at, size) for path, at, size in btf.leaves(struct["id"]) if re.search(r"\bpad\d?\b", path)
    }
    assert named <= set(python_leaves(mirror)) <= named | explicit_padding


@pytest.mark.parametrize("name", STRUCTS)
def test_every_field_has_its_name_in_c(btf: Btf, header: Btf, name: str) -> None:
    btf = header if name == "event" else btf
    mirror = STRUCTS[name]
    if not issubclass(mirror, layout.Struct):
        return
    at = {offset: path for path, offset, _ in btf.leaves(btf.struct(name)["id"])}
    for field, (offset, _) in zip(mirror.names(), python_leaves(mirror), strict=True):
        c_name = at[offset].rsplit(".", 1)[-1].removesuffix("_be")
        assert c_name in (field, {"ifindex_a": "ifindex[0]", "ifindex_b": "ifindex[1]"}.get(field)), (
            field,
            at[offset],
        )
        assert at[offset].endswith("_be") == (field in mirror.PORTS)


@pytest.mark.parametrize("name", ENUMS)
def test_every_constant_is_the_same(header: Btf, name: str) -> None:
    (enum,) = (t for t in header.types.values() if t["kind"] == "ENUM" and t["name"] == name)
    for constant in enum["values"]:
        prefix = next(p for p in PREFIXES if constant["name"].startswith(p))
        python = constant["name"].removeprefix(prefix)
        if python != "REASONS":
            assert ENUMS[name][python] == constant["val"]


def test_programs_are_far_from_the_verifiers_limit(node: Box) -> None:
    programs = [
        path for path in (node.pins / layout.LAYOUT_HASH / "programs").glob("*/*") if not path.is_dir()
    ]
    assert len(programs) == 16
    for path in programs:
        verified = libbpf.info(node.kernel.program(path.name), libbpf.ProgInfo).verified_insns
        print(f"{path.name:14} {verified:7}")
        assert 0 < verified < VERIFIED_LIMIT


def test_map_names_are_whole_in_the_kernel(node: Box) -> None:
    for path in (node.pins / layout.LAYOUT_HASH / "maps").iterdir():
        assert node.kernel.table(path.name).name == path.name


def test_a_second_agent_adopts_maps_programs_and_links(node: Box) -> None:
    links = node.pins / layout.LAYOUT_HASH / "links"

    def ids() -> dict[str, tuple[int, int]]:
        found = {}
        for path in links.iterdir():
            fd = libbpf.pinned(path)
            assert fd is not None
            info = libbpf.info(fd, libbpf.LinkInfo)
            found[path.name] = (info.id, info.prog_id)
            os.close(fd)
        return found

    before, generation = ids(), node.kernel.generation
    second = Kernel.open(node.pins, node.cgroup)
    assert ids() == before
    assert second.generation == generation
    assert second.attached() == {"one", "two", "three"}


def test_a_newer_object_takes_the_links_over_without_detaching(node: Box, tmp_path: Path) -> None:
    newer = tmp_path / "newer.bpf.o"
    newer.write_bytes(OBJECT.read_bytes() + b"\0")
    links = node.pins / layout.LAYOUT_HASH / "links"
    path = next(iter(links.iterdir()))

    def identity() -> tuple[int, int]:
        fd = libbpf.pinned(path)
        assert fd is not None
        info = libbpf.info(fd, libbpf.LinkInfo)
        os.close(fd)
        return info.id, info.prog_id

    link, program = identity()
    with_newer = Kernel.open(node.pins, node.cgroup, newer)
    assert identity()[0] == link
    assert identity()[1] != program
    assert len(list((node.pins / layout.LAYOUT_HASH / "programs").iterdir())) == 1
    node.kernel = with_newer


def test_a_missing_object_says_how_to_build_it(tmp_path: Path, node: Box) -> None:
    with pytest.raises(KernelError, match="make -C bpf"):
        Kernel.open(node.pins, node.cgroup, tmp_path / "absent.bpf.o")

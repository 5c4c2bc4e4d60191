"""The binding: tables in batches, counters, adoption of listeners, errors that name things."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.kernel import KernelError
from agent.maglev_array import MaglevArray
from bpf.layout import AddrKey, AddrSlot, AddrValue, Backend, PeerKey, PeerSlot, PeerValue, packed_address
from tests.kernel.box import Box


def test_tables_take_and_give_back_more_than_one_batch(box: Box) -> None:
    table = box.kernel.table("sl_peer")
    value = PeerValue.of(PeerSlot(class_id=7)).pack()
    entries = {PeerKey(99, 0, number).pack(): value for number in range(40_000)}
    table.update(entries)
    try:
        assert entries.items() <= dict(table.items()).items()
    finally:
        table.delete([*entries, PeerKey(98, 0, 1).pack()])
    assert not entries.keys() & dict(table.items()).keys()


def test_deleting_skips_what_is_not_there(box: Box) -> None:
    table = box.kernel.table("sl_addr")
    present = [AddrKey.of(f"203.0.113.{n}/32").pack() for n in range(0, 20, 2)]
    absent = [AddrKey.of(f"203.0.113.{n}/32").pack() for n in range(1, 20, 2)]
    table.update(dict.fromkeys(present, AddrValue.of(AddrSlot(1, 300)).pack()))
    table.delete([key for pair in zip(absent, present, strict=True) for key in pair])
    assert [table.lookup(key) for key in present] == [None] * 10


def test_an_entry_of_another_size_is_refused_before_the_kernel_sees_it(box: Box) -> None:
    with pytest.raises(ValueError, match="sl_addr has 20 bytes of key"):
        box.kernel.table("sl_addr").update({b"short": b""})


def test_the_backends_are_mapped_memory(box: Box) -> None:
    backend = Backend(packed_address("10.64.0.200"), 8080).pack()
    table = box.kernel.table("sl_maglev")
    array, last = MaglevArray(table.fd, table.max_entries), table.max_entries - 1
    array.write(last, backend)
    assert table.lookup(last.to_bytes(4, "little")) == array.read(last, 1) == backend


def test_a_namespace_that_is_gone_is_an_error_with_a_hint(box: Box) -> None:
    with pytest.raises(KernelError, match=r"enter /run/netns/absent failed: No such file.*has the pod ended"):
        box.kernel.netns_cookie(Path("/run/netns/absent"))


def test_attaching_twice_is_attaching_once_and_detaching_is_final(box: Box) -> None:
    pod = box.pods[2]
    box.kernel.attach_inbound(pod.name, pod.netns)
    box.kernel.attach_inbound(pod.name, pod.netns)
    assert "three" in box.kernel.attached()
    box.kernel.detach_inbound(pod.name)
    box.kernel.detach_inbound(pod.name)


def test_pod_names_with_dots_and_slashes_are_kept(box: Box) -> None:
    box.kernel.attach_inbound("shop/web-1.2", box.pods[0].netns)
    assert "shop/web-1.2" in box.kernel.attached()
    box.kernel.detach_inbound("shop/web-1.2")
    assert "shop/web-1.2" not in box.kernel.attached()

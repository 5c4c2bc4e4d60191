"""The hosts file of a pod, as text and as a file that is mounted while it changes."""

from __future__ import annotations

from pathlib import Path

from mesh.model import ServiceName, WorkloadName
from sluice.hosts import RESOLVER, hosts_text, resolv_text, write_in_place

POD = WorkloadName("shop", "web")
SERVICES = {
    ServiceName("shop", "catalog"): ("10.128.0.1", "fd51:ce00:0:2::1"),
    ServiceName("finance", "bank"): ("10.128.0.2",),
}


def test_short_names_are_for_the_own_namespace() -> None:
    lines = hosts_text(POD, ("10.64.0.2",), SERVICES).splitlines()
    assert "10.64.0.2\tweb" in lines
    assert "10.128.0.1\tcatalog catalog.shop catalog.shop.svc catalog.shop.svc.cluster.local" in lines
    assert "fd51:ce00:0:2::1\tcatalog catalog.shop catalog.shop.svc catalog.shop.svc.cluster.local" in lines
    assert "10.128.0.2\tbank.finance bank.finance.svc bank.finance.svc.cluster.local" in lines


def test_the_mesh_resolver_is_used_where_there_is_one() -> None:
    assert resolv_text(POD, {}).startswith("nameserver 127.0.0.1\nsearch shop.svc.cluster.local svc")
    assert resolv_text(POD, {RESOLVER: ("10.128.0.10",)}).startswith("nameserver 10.128.0.10\n")


def test_a_file_keeps_its_inode_and_loses_what_is_longer(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    write_in_place(path, "long text\n")
    inode = path.stat().st_ino
    write_in_place(path, "short\n")
    assert path.read_text() == "short\n"
    assert path.stat().st_ino == inode

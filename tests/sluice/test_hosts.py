"""The files that tell a pod who it is and whom to ask."""

from __future__ import annotations

from dataclasses import replace

from mesh.model import WorkloadName
from sluice.hosts import RESOLV_CONF, name_files
from sluice.pod_spec import PodSpec

POD = PodSpec(WorkloadName("shop", "web"), (), hostname="web-0")


def test_a_pod_knows_itself_and_asks_for_the_rest() -> None:
    files = name_files(POD, ("10.64.0.2", "fd51::2"), ("10.128.0.10", "fd51::a"))
    lines = files["hosts"].splitlines()
    assert lines[-2:] == ["10.64.0.2\tweb-0", "fd51::2\tweb-0"]
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert files["hostname"] == "web-0\n"
    assert files["resolv.conf"] == (
        "nameserver 10.128.0.10\nnameserver fd51::a\n"
        "search shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    )


def test_a_pod_may_ask_whom_the_machine_asks() -> None:
    machine = RESOLV_CONF.read_text() if RESOLV_CONF.exists() else ""
    pod = replace(POD, dns_policy="Default")
    assert name_files(pod, (), ("10.128.0.10",))["resolv.conf"] == machine

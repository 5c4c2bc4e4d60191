"""The hosts file and the resolv.conf of a pod."""

from __future__ import annotations

from mesh.model import WorkloadName
from sluice.hosts import RESOLV_CONF, hosts_text, resolv_text

POD = WorkloadName("shop", "web")


def test_a_pod_knows_itself_and_asks_for_the_rest() -> None:
    lines = hosts_text(POD, ("10.64.0.2", "fd51::2")).splitlines()
    assert lines[-2:] == ["10.64.0.2\tweb", "fd51::2\tweb"]
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert resolv_text(POD, "ClusterFirst", ("10.128.0.10", "fd51::a")) == (
        "nameserver 10.128.0.10\nnameserver fd51::a\n"
        "search shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    )


def test_a_pod_may_ask_whom_the_machine_asks() -> None:
    machine = RESOLV_CONF.read_text() if RESOLV_CONF.exists() else ""
    assert resolv_text(POD, "Default", ("10.128.0.10",)) == machine

"""Asking Envoy about resources, and being unable to ask it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.discovery.envoy import CLUSTER, LISTENER
from mesh.model import NO_TRAFFIC_POLICY, AccessLogProvider, Balancer, TrafficPolicy
from mesh.proxy import AccessLog, L7Class
from xds import trial
from xds.render import EnvoyResource, clusters, listeners, naming
from xds.render.mutual_tls import Peers

#: Says how often the process forked: `fork` runs what was registered here, `vfork` does not.
FORKS = """
import ctypes
forks = []
count = ctypes.CFUNCTYPE(None)(lambda: forks.append(1))
assert ctypes.CDLL(None).__register_atfork(count, None, None, None) == 0
import os
if (child := os.fork()) == 0:
    os._exit(0)
os.waitpid(child, 0)
assert forks.pop(), "a fork is seen"
from xds.trial import ask_envoy
assert ask_envoy(()) == ""
print("forks:", len(forks))
"""


def test_envoy_is_asked_without_a_fork() -> None:
    """In the child of a fork gRPC's threads begin anew, and under load one of them would crash before Envoy
    was there: a good EnvoyFilter was refused for good."""
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=60)
    assert done.stdout == "forks: 0\n", done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is asked to become somebody else")
def test_envoy_runs_as_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "envoy_binary", lambda: _program(tmp_path, "id -u; id -G; env; exit 1"))
    words = trial.ask_envoy(())
    assert words.startswith("65534 65534 ") and "PATH" not in words


def test_an_access_log_to_standard_output_can_be_opened() -> None:
    """It is a file of whoever started Envoy, whom nobody may not ask for it."""
    standard = AccessLog(AccessLogProvider("envoy", "file", text="said", path="/dev/stdout"))
    body = listeners.class_listener(L7Class(256, "ingress", (), plain=()), None, (standard,))
    asked = trial.Trying(EnvoyResource(LISTENER, "one", body, ()))
    beside = EnvoyResource(CLUSTER, naming.INBOUND_PASSTHROUGH, clusters.passthrough_cluster("ingress"), ())
    assert trial.ask_envoy([asked, trial.Trying(beside)]) == ""


def test_an_envoy_that_is_killed_has_said_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "envoy_binary", lambda: _program(tmp_path, "kill -SEGV $$"))
    answer = trial.Trial().run(())
    assert answer == trial.Answer("cannot be tried: Envoy was ended by Segmentation fault", envoys=False)


def test_an_envoy_that_takes_too_long_is_asked_once_more() -> None:
    """Of a busy machine the first time, and of the resource if it is so again: a script may never end."""

    def slow(_: object) -> str:
        raise trial.NoAnswer("too long")

    tried, judge = trial.Trying(EnvoyResource(CLUSTER, "web", b"x", ())), trial.Trial(slow)
    assert judge.run([tried]) == trial.Answer("too long", envoys=False)
    assert judge.forget_unasked() and judge.verdict(tried.resource) is None
    assert judge.run([tried]) == trial.Answer("too long", envoys=True)
    assert not judge.forget_unasked() and judge.verdict(tried.resource) == "too long"


def test_envoy_is_asked_about_a_cluster_of_mutual_tls() -> None:
    """Certificates come over the stream, which an Envoy that is only asked has not."""
    peers = Peers("outbound_.80_._.web.shop.svc.cluster.local", ("spiffe://cluster.local/ns/shop/sa/web",))
    dialled = TrafficPolicy(Balancer("PASSTHROUGH"))
    for index, said in enumerate((NO_TRAFFIC_POLICY, dialled)):
        body = clusters.service_cluster(f"web{index}", False, said, "client", peers)
        asked = trial.Trying(EnvoyResource(CLUSTER, f"web{index}", body, ()), ())
        assert trial.ask_envoy((asked,)) == ""


def _program(folder: Path, script: str) -> Path:
    path = folder / "envoy"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path

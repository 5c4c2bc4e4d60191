"""The command line from outside: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.answers.flow import Peer
from sluice.cli import COMMANDS
from sluice.commands.observe import is_peer
from sluice.text_table import text_table
from tests.sluice.conftest import ROOT

MESH = "no-such-mesh"


def sluice(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sluice", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
        timeout=60,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command: str) -> None:
    done = sluice(command, "--help")
    assert done.returncode == 0
    assert "Examples:\n" in done.stdout
    assert f"  sluice {command}" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("exec", "web", "--", "ls"),
        ("exec", "shop/web"),
        ("explain", "--from", "shop/web"),
        ("explain", "--from", "a/b", "--to", "c/d:1", "--header", "novalue"),
        ("render", "-f", "x.yaml"),
        ("observe", "--verdict", "MAYBE"),
        ("status", "-o", "xml"),
        ("proxy-config", "everything", "shop/web"),
        ("proxy-config", "clusters", "web"),
        ("pc", "endpoints", "shop/web", "--port", "http"),
        ("proxy-status", "-o", "xml"),
        ("describe", "node", "shop/web"),
        ("trace", "everything"),
        ("trace", "tcp", "--duration", "-1"),
        ("apply",),
        ("delete",),
        ("delete", "pod"),
        ("delete", "pod", "web", "-f", "x.yaml"),
        ("register", "legacy", "192.0.2.1"),
        ("register", "shop/legacy", "nowhere"),
        ("register", "shop/legacy", "192.0.2.1", "--port", "http"),
        ("observe", "--last", "-1"),
        ("apply", "-f", "x.yaml", "--timeout", "nan"),
        ("status", "--wait", "--timeout", "-1"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...]) -> None:
    done = sluice(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: sluice")


def test_who_gives_a_command_what_it_does_not_know_is_told_how_to_use_that_command() -> None:
    done = sluice("explain", "shop/client", "shop/web:80")
    assert done.returncode == 2
    assert done.stderr.startswith("usage: sluice explain ")
    assert "unrecognized arguments: shop/client shop/web:80" in done.stderr


def test_the_environment_may_name_the_mesh() -> None:
    assert f"mesh {MESH} is not running" in sluice("status", SLUICE_MESH=MESH).stderr
    assert "mesh other is not running" in sluice("status", "--name", "other", SLUICE_MESH=MESH).stderr
    assert f"here {MESH})" in sluice("status", "--help", SLUICE_MESH=MESH).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("status", "--name", MESH), f"mesh {MESH} is not running"),
        (("apply", "--name", MESH, "-f", "-"), f"mesh {MESH} is not running"),
        (("apply", "--name", MESH, "-f", "/nowhere.yaml"), "/nowhere.yaml: No such file"),
        (("observe", "--name", MESH), f"mesh {MESH} is not running"),
        (("pc", "--name", MESH, "clusters", "shop/web"), f"mesh {MESH} is not running"),
        (("ps", "--name", MESH), f"mesh {MESH} is not running"),
        (("describe", "--name", MESH, "svc", "shop/web"), f"mesh {MESH} is not running"),
        (("trace", "--name", MESH, "drops"), f"mesh {MESH} is not running"),
        (("explain", "--name", MESH, "--from", "a/b", "--to", "c/d:1"), f"mesh {MESH} is not running"),
        (("explain", "--from", "a/b", "--to", "c/d:1", "-f", "/nowhere"), "there is no /nowhere"),
        (("explain", "--from", "a/b", "--to", "c/d:1", "-f", "/bin/sh"), "/bin/sh is not UTF-8"),
        (("up", "--name", MESH, "-f", "/nowhere"), "there is no /nowhere"),
        (("up", "--name", "../x"), "cannot name a mesh"),
        (("exec", "--name", MESH, "shop/web", "--", "ls"), "runs no pod shop/web"),
        (("logs", "--name", MESH, "shop/web"), "has no log of pod shop/web"),
        (("logs", "--name", MESH, "web"), "is not NAMESPACE/POD"),
    ],
)
def test_a_failure_is_one_line_and_ends_with_1(arguments: tuple[str, ...], said: str) -> None:
    done = sluice(*arguments, stdin="kind: x")
    assert done.returncode == 1
    assert done.stderr.startswith("sluice: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_reader_who_leaves_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m sluice render -f {_shop(tmp_path)} --node | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == ""


def test_explain_answers_offline_from_files(tmp_path: Path) -> None:
    shop = str(_shop(tmp_path))
    done = sluice("explain", "-f", shop, "--from", "shop/web", "--to", "shop/catalog:80", "-o", "json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["verdict"], answer["path"]) == ("allow", "kernel")
    assert [backend["pod"] for backend in answer["backends"]] == ["shop/catalog"]
    text = sluice("explain", "-f", shop, "--from", "shop/web", "--to", "shop/catalog:80").stdout
    assert text.startswith("allow, by the kernel path\n")
    world = sluice("explain", "-f", shop, "--from", "shop/web", "--to", "192.0.2.1:80").stdout
    assert world.splitlines()[-1] == "  192.0.2.1:80: allow, kernel"
    wrong = sluice("explain", "-f", shop, "--from", "shop/web", "--to", "shop/nothing:80")
    assert (wrong.returncode, wrong.stderr) == (1, "sluice: there is no Service shop/nothing\n")


def test_render_shows_the_nodes_tables_offline(tmp_path: Path) -> None:
    done = sluice("render", "-f", str(_shop(tmp_path)), "--node", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["services"]["shop/catalog"]["ports"][0]["port"] == 80


def test_doctor_judges_this_machine() -> None:
    done = sluice("doctor", "-o", "json")
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 1)
    states = {finding["name"]: finding["state"] for finding in report["findings"]}
    assert set(states.values()) <= {"ok", "missing", "optional"}
    assert {"root", "kernel", "BTF", "libbpf", "cgroup2", "bpffs", "Envoy", "clang"} <= states.keys()
    assert all(finding["remedy"] for finding in report["findings"] if finding["state"] != "ok")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to drop it")
def test_without_root_up_says_so_in_one_line() -> None:
    # The modules first: another user may not be allowed to read them where this tree lies.
    code = (
        "import os, sys, sluice.commands.up; from sluice.cli import main; os.setgroups([]);"
        f"os.setresuid(65534, 65534, 65534); sys.exit(main(['up', '--name', {MESH!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith("sluice: a mesh needs root")
    assert len(done.stderr.splitlines()) == 1


def test_a_peer_is_found_by_each_of_its_names() -> None:
    peer = Peer("fd51::2", 80, "shop", "web", 256, "shop/front")
    for name in ("fd51::2", "[fd51::2]:80", "shop", "shop/web", "shop/web:80", "shop/front", "shop/front:80"):
        assert is_peer(peer, name)
    for name in ("web", "shop/web:81", "fd51", "other"):
        assert not is_peer(peer, name)


def test_a_table_has_aligned_columns_and_no_trailing_space() -> None:
    assert text_table(("A", "LONG"), [("word", "x")]) == "A     LONG\nword  x"


def _shop(folder: Path) -> Path:
    path = folder / "shop.yaml"
    path.write_text(
        """
apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec: {selector: {app: catalog}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: catalog, namespace: shop, labels: {app: catalog}}
spec: {containers: [{name: app, command: [serve]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: app, command: [serve]}]}
"""
    )
    return path

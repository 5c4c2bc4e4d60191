"""Start a mesh on this machine: control plane, agent, and every Pod as real processes in a network
namespace of its own. Manifests are watched: change a file, and the mesh changes. Without -f the mesh
goes on with the objects it had. In the foreground Ctrl-C stops it, as `sluice down` does.

Examples:
  sluice up -f shop.yaml
  sluice up -f manifests/ policies/ --detach
  sluice up --name second -f other.yaml --detach
"""

from __future__ import annotations

import argparse
import http.client
import logging
import sys
import time

from sluice.admin import Admin
from sluice.child import child_environment
from sluice.commands.options import add_files, add_name, add_timeout, existing_path, key_place
from sluice.failure import Failure
from sluice.gateway_pods import gateways_file
from sluice.mesh_directory import BPFFS, MeshDirectory, claim_addresses
from sluice.node import check_machine, mount_bpffs, run_node
from sluice.processes import Process
from sluice.resolver import write_resolver
from sluice.supervisor import mesh_children
from sluice.supervisor_lock import hold_lock, supervisor_pid
from sluice.teardown import take_down

DETACHED = """\
mesh {name} is up
  sluice status{option} --wait     wait until all pods are ready
  sluice observe{option} --follow  watch its connections
  sluice down{option} --purge      stop it and remove everything"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_files(parser, "manifests: files or folders, watched", required=False)
    add_name(parser)
    parser.add_argument(
        "--jwks-allow",
        action="append",
        type=key_place,
        default=[],
        metavar="CIDR|HOST",
        help="fetch keys of RequestAuthentications (jwksUri) from here, too: without it only from public "
        "addresses; repeatable",
    )
    parser.add_argument(
        "--wasm-allow",
        action="append",
        type=key_place,
        default=[],
        metavar="CIDR|HOST",
        help="fetch modules of WasmPlugins from here, too: without it only from public addresses; repeatable",
    )
    parser.add_argument(
        "--wasm-folder",
        type=existing_path,
        metavar="FOLDER",
        help="read modules of WasmPlugins whose url is file:///FOLDER/...; without it none",
    )
    parser.add_argument("--detach", action="store_true", help="return when control plane and agent answer")
    add_timeout(parser, 60)


def run(options: argparse.Namespace) -> int:
    mesh = MeshDirectory(options.name)
    try:
        sources = [str(existing_path(path)) for path in options.files]
    except argparse.ArgumentTypeError as error:
        raise Failure(str(error)) from None
    check_machine()
    if pid := supervisor_pid(mesh):
        raise Failure(
            f"mesh {mesh.name} is already running (process {pid})",
            "change it with `sluice apply`, or stop it with `sluice down`",
        )
    if mount_bpffs():
        print(f"mounted bpffs on {BPFFS}", file=sys.stderr)
    plan = claim_addresses(mesh)
    mesh.logs.mkdir(parents=True, exist_ok=True)
    if options.detach:
        _detach(mesh, sources, _fetching(options), options.timeout)
        option = "" if mesh.name == "default" else f" --name {mesh.name}"
        print(DETACHED.format(name=mesh.name, option=option))
        return 0
    lock = hold_lock(mesh)
    if lock is None:
        raise Failure(f"mesh {mesh.name} was started by someone else just now")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    sources[:0] = [str(write_resolver(mesh, plan)), str(gateways_file(mesh))]
    run_node(mesh, plan, mesh_children(mesh, plan, sources, _fetching(options)))
    take_down(mesh, purge=False)
    print(f"mesh {mesh.name} is down", file=sys.stderr)
    return 0


def _fetching(options: argparse.Namespace) -> list[str]:
    """The options that say from where the control plane may fetch."""
    found = [word for place in options.jwks_allow for word in ("--jwks-allow", place)]
    found += [word for place in options.wasm_allow for word in ("--wasm-allow", place)]
    return [*found, "--wasm-folder", str(options.wasm_folder)] if options.wasm_folder else found


def _detach(mesh: MeshDirectory, sources: list[str], fetching: list[str], timeout: float) -> None:
    """Start the supervisor in a session of its own and wait until the mesh answers."""
    argv = [sys.executable, "-m", "sluice", "up", "--name", mesh.name]
    if sources:
        argv += ["-f", *sources]
    argv += fetching
    log = mesh.logs / "supervisor.log"
    begin = log.stat().st_size if log.exists() else 0
    process = Process.launch(argv, log, child_environment())
    parts = (("xds", Admin.of_control_plane(mesh)), ("agent", Admin.of_agent(mesh)))
    deadline = time.monotonic() + timeout
    # Parts of an earlier supervisor may answer before this one has begun.
    while not (supervisor_pid(mesh) == process.pid and all(_answers(admin) for _, admin in parts)):
        if process.has_ended(patience=0.05):
            said = log.read_bytes()[begin:].decode(errors="replace").strip().splitlines()
            raise Failure(said[-1].removeprefix("sluice: ") if said else f"the supervisor ended; see {log}")
        if time.monotonic() > deadline:
            logs = ", ".join(str(mesh.logs / f"{part}.log") for part, admin in parts if not _answers(admin))
            raise Failure(f"mesh {mesh.name} does not answer after {timeout:g} s", f"see {logs}")


def _answers(admin: Admin) -> bool:
    try:
        admin.get("/status", timeout=5)
    except (Failure, OSError, http.client.HTTPException):
        return False
    return True

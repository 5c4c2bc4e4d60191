"""Sending objects to a running mesh, for all who change it: who was changed, who was refused."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sluice.admin import Admin, Refused
from sluice.commands.options import add_files, add_name, add_output, add_timeout
from sluice.enforcement import wait_until_enforced
from sluice.failure import Failure
from sluice.mesh_directory import MeshDirectory

_SUFFIXES = (".yaml", ".yml", ".json")

#: Actions after which an object is as the user wanted it.
_DONE = ("created", "configured", "unchanged", "deleted")


#: Where manifests come from, and their text.
Manifest = tuple[str, bytes]


def configure_edit(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    add_output(parser)
    parser.add_argument("--no-wait", action="store_true", help="do not wait until it is enforced")
    add_timeout(parser, 30)


def add_manifests(parser: argparse.ArgumentParser, required: bool = True) -> None:
    add_files(parser, "a file, a folder, or - for standard input", required)


def run_edit(verb: str, manifests: Iterable[Manifest], options: argparse.Namespace) -> int:
    """POST every manifest to `/VERB`; 1 when any object was refused or is in force too late."""
    mesh = MeshDirectory(options.name)
    control_plane = Admin.of_control_plane(mesh)
    whole: dict[str, Any] = {"generation": 0, "objects": [], "problems": []}
    for origin, body in manifests:
        try:
            answer = control_plane.post(f"/{verb}", body)
        except Refused as refused:
            raise Failure(f"{origin}: {refused}") from None
        whole["generation"] = max(whole["generation"], answer["generation"])
        whole["objects"] += answer["objects"]
        whole["problems"] += [
            problem | ({"object": f"File {origin}"} if problem["object"] == "File request" else {})
            for problem in answer["problems"]
        ]
    if options.output == "text":
        _print(whole)
    if not options.no_wait:
        wait_until_enforced(mesh, whole["generation"], options.timeout)
    if options.output == "json":
        print(json.dumps(whole | {"enforced": not options.no_wait}, indent=2))
    refused_objects = [o["object"] for o in whole["objects"] if o["action"] not in _DONE]
    unreadable = [p for p in whole["problems"] if p["object"].startswith("File ")]
    return 1 if refused_objects or unreadable else 0


def manifests(paths: Sequence[str]) -> Iterator[Manifest]:
    """The texts of files, folders or standard input."""
    for text in paths:
        path = Path(text)
        if text == "-":
            yield "standard input", sys.stdin.buffer.read()
        elif path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
            if not files:
                raise Failure(f"{path} holds no manifest", f"they end in {', '.join(_SUFFIXES)}")
            for file in files:
                yield str(file), file.read_bytes()
        else:
            yield text, path.read_bytes()


def _print(whole: dict[str, Any]) -> None:
    for item in whole["objects"]:
        if item["action"] in _DONE:
            kind, _, name = item["object"].partition(" ")
            print(f"{kind.lower()}/{name.rpartition('/')[2]} {item['action']}")
    failed = {item["object"]: item["action"] for item in whole["objects"] if item["action"] not in _DONE}
    for name, action in failed.items():
        if not any(problem["object"] == name for problem in whole["problems"]):
            print(f"{name}: {action}", file=sys.stderr)
    for problem in whole["problems"]:
        action = f" {failed[problem['object']]}" if problem["object"] in failed else ""
        field = f"{problem['field']}: " if problem["field"] else ""
        print(f"{problem['object']}{action}: {field}{problem['message']}", file=sys.stderr)
    sys.stdout.flush()

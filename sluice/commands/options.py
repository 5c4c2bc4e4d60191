"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import math
import os
import re
from pathlib import Path

from mesh.model import WorkloadName
from xds.allowed import Allowed


def add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--name",
        default=os.environ.get("SLUICE_MESH") or "default",
        metavar="MESH",
        help="which mesh of this machine (default: what SLUICE_MESH says, here %(default)s)",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="default: text")


def add_files(parser: argparse.ArgumentParser, text: str, required: bool = True) -> None:
    parser.add_argument(
        "-f",
        "--file",
        dest="files",
        action="extend",
        nargs="+",
        default=[],
        required=required,
        metavar="PATH",
        help=text,
    )


def add_timeout(parser: argparse.ArgumentParser, default: float) -> None:
    parser.add_argument(
        "--timeout", type=seconds, default=default, metavar="SECONDS", help=f"default: {default:g}"
    )


def pod_name(text: str) -> WorkloadName:
    """An argument NAMESPACE/POD."""
    match = re.fullmatch(r"([-a-z0-9.]+)/([-a-z0-9.]+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAMESPACE/POD")
    return WorkloadName(match[1], match[2])


def seconds(text: str) -> float:
    """An argument that is a span of time."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return number


def count(text: str) -> int:
    """An argument that says how many."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no count")
    return int(text)


def existing_path(text: str) -> Path:
    """An argument that names a file or folder, made absolute."""
    path = Path(text).absolute()
    if not path.exists():
        raise argparse.ArgumentTypeError(f"there is no {text}")
    return path


def key_place(text: str) -> str:
    """An argument CIDR|HOST from where keys or modules may be fetched."""
    try:
        Allowed.of([text])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def add_format(parser: argparse.ArgumentParser) -> None:
    """The output of the commands that are istioctl's."""
    parser.add_argument(
        "-o", "--output", choices=("short", "json", "yaml"), default="short", help="default: short, a table"
    )
